"""``insitu lm`` as a user meets it, on a model and data of their own."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from insitu.cli.app import app
from insitu.language import packaged_model

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.cli.test_cli import insitu, refused
from tests.language.small_models import TEMPLATE, write_corpus, write_model

pytestmark = pytest.mark.usefixtures("as_users_run")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    (folder / "own.toml").write_text(TEMPLATE)
    write_corpus(folder / "data")
    write_model(folder / "gpt2", "gpt2")
    return folder


@pytest.fixture(scope="module")
def own(place):
    return ("--model", place / "gpt2", "--data", place / "data", "--template", place / "own.toml", "--device", "cpu")


SMALL = ("--sets", 2, "--items", 4, "--epochs", 1, 2, "--rates", 0.05)


def test_compare_takes_several_values_and_writes_records_and_a_page(own, tmp_path):
    words = ("lm", "compare", *own, *SMALL, "--shots", 1, 3, "--optimisers", "gd", "adam", "--json", "--out", tmp_path)
    words += ("--every-epoch",)
    done = insitu(*words)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {row["shots"] for row in told["arms"]} == {1, 3}
    assert {"zero-shot", "in context", "gd all 0.05", "adam all 0.05"} <= {row["arm"] for row in told["arms"]}
    ways = {way["name"]: way for way in told["decisions"][-1]["ways"]}
    assert ways["fine-tuning"]["accuracy"]["low"] <= ways["fine-tuning"]["accuracy"]["high"]
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "<svg" in page
    assert "Best in hindsight, as the paper reports" in page.replace("&#x27;", "'")
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "records").glob("*.json")}
    assert len(records) == 2 * 2 * (7 + 2)
    again = insitu(*words, "--resume")
    assert json.loads(again.stdout)["arms"] == told["arms"]
    assert {path: path.stat().st_mtime_ns for path in records} == records


def settled(folder):
    """The records of a folder without what two runs may differ in."""
    volatile = ("finished", "digest", "commit", "seconds", "training seconds", "reading seconds")
    records = {path.name: json.loads(path.read_text()) for path in (folder / "records").iterdir()}
    return {name: {k: v for k, v in record.items() if k not in volatile} for name, record in records.items()}


@pytest.mark.parametrize("name", ["compare", "order"])
def test_sittings_end_with_the_bits_of_one_run(name, own, tmp_path):
    """Also where a record of a set that trains together with another one is missing."""
    words = ("lm", name, *own, *SMALL, "--shots", 2, "--optimisers", "gd", "--out", tmp_path)
    assert insitu(*words).returncode == 0
    whole = settled(tmp_path)
    for path in (tmp_path / "records").glob(f"{name}.gd*.set1.*"):
        path.unlink()
    (tmp_path / "records" / sorted(whole)[0]).unlink(missing_ok=True)
    assert insitu(*words, "--budget", "10m").returncode == 0
    assert settled(tmp_path) == whole


def test_a_sitting_that_is_too_short_says_so(own, tmp_path, monkeypatch):
    monkeypatch.setattr("insitu.cli.options.elapsed", lambda: 3600.0)
    done = insitu("lm", "order", *own, *SMALL, "--shots", 2, "--out", tmp_path, "--budget", "10s")
    assert done.returncode == 75
    assert "the time is over" in done.stderr


@pytest.mark.parametrize("words", [("order", "--shots", 2), ("mask", "--steps", 2, "--seeds", 1, "--shots", 1)])
def test_a_plan_of_a_long_command_runs_nothing(words, own, place, tmp_path):
    name, *rest = words
    data = own if name == "order" else ("--model", place / "gpt2", "--device", "cpu", "--train-data", "mr")
    done = insitu("lm", name, *data, *rest, "--items", 4, "--plan", "--json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predicted_seconds"] > 0
    assert not (tmp_path / "out").exists()


def test_compare_says_first_what_to_do(own, place, tmp_path):
    done = insitu("lm", "compare", *own, *SMALL, "--shots", 2, "--show", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.split("\n\n")
    assert re.match("(Prompt|Fine-tune|Use no demonstrations|Use neither|Measure more).*interval", first)
    rows = [json.loads(line) for line in (place / "data" / "train.jsonl").read_text().splitlines()]
    shown = re.findall(r"  \[(.*)\] (.*)", others[-2])
    assert len(shown) == 2
    assert all({"text": text, "label": label} in rows for label, text in shown)
    assert "This takes about" in " ".join(done.stderr.split())


def test_a_plan_runs_nothing(own, tmp_path):
    done = insitu("lm", "compare", *own, *SMALL, "--plan", "--json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() == {"predicted_seconds", "bytes"}
    assert not (tmp_path / "out").exists()


def test_pinned_demonstrations_are_the_ones_shown(own, tmp_path):
    done = insitu("lm", "compare", *own, *SMALL, "--demonstrations", 7, 2, "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "records").glob("compare.in-context.n2.set0*.json")
    assert [d["id"] for d in json.loads(path.read_text())["demonstrations"]] == ["7", "2"]


def test_flipped_labels_are_shown(own, place, tmp_path):
    insitu("lm", "compare", *own, *SMALL, "--shots", 2, "--labels", "flipped", "--out", tmp_path)
    rows = [json.loads(line) for line in (place / "data" / "train.jsonl").read_text().splitlines()]
    (path,) = (tmp_path / "records").glob("compare.in-context.n2.set0*.json")
    shown = json.loads(path.read_text())["demonstrations"]
    assert all(rows[int(d["id"])]["label"] != d["label"] for d in shown)


def test_hidden_states_are_compared_on_request(own, tmp_path):
    done = insitu("lm", "compare", *own, *SMALL, "--shots", 2, "--hidden", "--json", "--out", tmp_path)
    (row,) = [row for row in json.loads(done.stdout)["arms"] if row["arm"] == "gd all 0.05"]
    assert abs(row["measures"]["SimAOU"][-1]) <= 1
    assert "Hidden states" in (tmp_path / "compare.html").read_text(encoding="utf-8")


def test_fetch_names_the_folder_and_a_model_that_is_not_there_is_named_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("INSITU_CACHE", str(tmp_path / "cache"))
    refused(insitu("lm", "weights", "--out", tmp_path / "out"), "insitu lm fetch smollm2")
    folder = packaged_model("smollm2").folder
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text("{}")  # as if it had been fetched
    done = insitu("lm", "fetch", "smollm2", "--json")
    assert json.loads(done.stdout)["folder"] == str(folder)
    refused(insitu("lm", "fetch", "smollm"), "did you mean smollm2?")


def test_order_writes_a_page(own, tmp_path):
    done = insitu("lm", "order", *own, *SMALL, "--shots", 3, "--orders", 3, "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    arms = {row["arm"]: row for row in json.loads(done.stdout)["arms"]}
    assert arms["gd all 0.05"]["measures"]["Sen"][-1] < 1e-4 < arms["in context"]["measures"]["Sen"][0]
    assert (tmp_path / "order.html").exists()


def test_weights_writes_a_page(place, tmp_path):
    done = insitu("lm", "weights", "--model", place / "gpt2", "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["matrices"]) == 9
    assert (tmp_path / "weights.html").exists()


def test_drift_stands_beside_accuracy(own, place, tmp_path):
    two = (place / "gpt2", write_model(tmp_path / "later", "gpt2"))
    words = ("--data", place / "data", "--template", place / "own.toml", "--shots", 2, "--items", 4, "--sets", 2)
    done = insitu("lm", "weights", "--checkpoints", *two, *words, "--json", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["drift"]
    assert [row["change from the first"] for row in rows] == [0.0, 0.0]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shots", 30), "30 demonstrations do not fit the window of gpt2, 256 tokens"),
        (("--shots", 8), "rows are that short|do not fit the window"),
        (("--shots", 0), "shots must be whole numbers of at least 1"),
        (("--optimisers", "sgd3"), "no optimiser is called 'sgd3'; did you mean"),
        (("--parts", "value:9"), "has no layer '9'"),
        (("--labels", "none"), "labels must be 'gold', 'flipped' or 'random'"),
        (("--demonstrations", 99, 1), "no train row has the id '99'"),
        (("--template", "subj"), "there is no word for the label 'fact'"),
        (("--template", "nothing"), "no template is called 'nothing'"),
        (("--model", "nobody/nothing"), "Where there is no network, fetch the model elsewhere"),
        (("--dtype", "bfloat16"), "Load it in float32"),
        (("--dtype", "int8"), "dtype must be"),
        (("--epochs", -1), "epochs must be rising"),
        (("--items", 1), "an interval over texts needs at least two of them"),
        (("--rates", 0), "rate must be a finite number and be positive"),
    ],
)
def test_wrong_input_is_refused(own, tmp_path, words, message):
    done = insitu("lm", "compare", *own, "--items", 4, "--sets", 1, "--shots", 2, "--out", tmp_path / "out", *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert re.search(message, " ".join(done.stderr.split())), done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_without_tokeniser_is_refused(place, tmp_path):
    (tmp_path / "config.json").write_text((place / "gpt2" / "config.json").read_text())
    refused(insitu("lm", "compare", "--model", tmp_path, "--out", tmp_path / "out"), "holds no tokeniser")


def test_pretraining_without_text_is_refused(tmp_path):
    done = insitu("lm", "pretrain", tmp_path / "none.txt", "--out", tmp_path / "out")
    refused(done, "cannot read")


def test_every_command_has_an_example():
    for command in get_command(app).commands["lm"].commands.values():
        assert "Example: insitu lm" in command.help


def test_nothing_draws_from_a_global_generator(own, tmp_path):
    before = torch.get_rng_state()
    insitu("lm", "compare", *own, "--items", 2, "--sets", 1, "--shots", 1, "--epochs", 1, "--out", tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_report_rebuilds_the_page_of_any_command(own, tmp_path):
    words = ("lm", "compare", *own, *SMALL, "--shots", 1, "--json", "--out", tmp_path)
    page = Path(json.loads(insitu(*words).stdout)["page"])
    before = page.read_text(encoding="utf-8")
    page.unlink()
    done = insitu("report", tmp_path, "--json")
    assert json.loads(done.stdout)["pages"] == [str(page)], done.stderr
    assert page.read_text(encoding="utf-8") == before

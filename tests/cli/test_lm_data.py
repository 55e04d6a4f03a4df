"""Labelled texts of ``insitu lm`` as a user brings them: columns, splits, templates, and rows that are left out."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.cli.test_cli import insitu, refused
from tests.language.small_models import WORDS, write_model
from tests.language.test_data import Split

from insitu.language import load_template
from insitu.records import read_folder

pytestmark = pytest.mark.usefixtures("as_users_run")
CASES = Path(__file__).parents[3] / "shared" / "cases"
needs_cases = pytest.mark.skipif(not CASES.exists(), reason="the cases lie outside the repository and are not here")
QUICK = ("--shots", 2, "--sets", 1, "--items", 6, "--orders", 1, "--rates", 0.001, "--epochs", 1, "--device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("data of lm") / "gpt2", "gpt2")


def rows(count=12):
    return [(f"{WORDS[i]} {WORDS[-i]} {i}", ("fact", "own_view")[i % 2]) for i in range(count)]


@pytest.fixture
def table(tmp_path):
    """A file without a split, with columns of other names and three rows that cannot be used."""
    lines = ["body,kind", *(f"{text},{label}" for text, label in rows()), "dull,", ",fact", "the film 0,fact"]
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    return tmp_path / "reviews.csv"


def records_of(folder):
    return list(read_folder(folder)[0].values())


def compare(model, data, out, *words):
    return insitu("lm", "compare", "--model", model, "--data", data, *QUICK, "--json", "--out", out, *words)


def test_a_table_is_read_by_named_columns_with_a_proposed_template(model, table, tmp_path):
    named = ("--text", "body", "--label", "kind")
    done = compare(model, table, tmp_path / "out", *named, "--save-template", tmp_path / "own.toml")
    assert done.returncode == 0, done.stderr
    assert "texts in body, labels in kind; drawn with seed 0: " in done.stderr
    assert "left out: 1 unsplit row without label, 1 unsplit row empty" in done.stderr
    assert "No template fits these labels; this one is proposed" in done.stderr
    assert done.stderr.index("own_view = ") < re.search(r"\d+/\d+  ", done.stderr).start()
    template = load_template(tmp_path / "own.toml")
    assert template.words == (("fact", "fact"), ("own_view", "own view"))
    record = records_of(tmp_path / "out")[0]
    assert record["source"]["split"].startswith("drawn with seed 0: ")
    assert record["excluded"]["unsplit"] == {"without label": 1, "empty": 1}
    assert record["proposed"] is True
    again = compare(model, table, tmp_path / "again", *named, "--template", tmp_path / "own.toml")
    assert json.loads(again.stdout)["arms"] == json.loads(done.stdout)["arms"]
    assert "proposed" not in again.stderr


def test_every_command_takes_columns(model, table, tmp_path):
    named = ("--text", "body", "--label", "kind", "--items", 2, "--device", "cpu", "--out", tmp_path / "out")
    quick = ("--sets", 1, "--shots", 2)
    descent = ("--optimisers", "gd", "--rates", 0.01, "--epochs", 1, "--orders", 2)
    (tmp_path / "other.csv").write_text(table.read_text().replace("film", "other"))
    data = ("--train-data", table, "--eval-data", tmp_path / "other.csv", "--seeds", 1, "--steps", 1, "--episodes", 1)
    for words in (
        ("order", "--model", model, "--data", table, *quick, *descent),
        ("weights", "--checkpoints", model, model, "--data", table, *quick),
        ("mask", "--model", model, *data, "--shots", 2, "--save-template", tmp_path / "two.toml"),
    ):
        done = insitu("lm", *words, *named)
        assert done.returncode == 0, done.stderr
        assert "texts in body, labels in kind" in done.stderr
        assert "[reviews]" in done.stderr
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "other.csv").write_text(table.read_text())
    same = ("--train-data", tmp_path / "more" / "other.csv", *data[2:])
    done = insitu("lm", "mask", "--model", model, *same, "--save-template", tmp_path / "one.toml", *named)
    refused(done, "--save-template: two data sets have one name (other, other)")
    assert load_template(f"{tmp_path / 'two.toml'}:other") == load_template(f"{tmp_path / 'two.toml'}:reviews")


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        ((), ["has the columns body, kind", "the column 'label' is missing", "--label"]),
        (("--label", "kind"), ["the column 'text' is missing", "--text"]),
        (("--label", "kidn", "--text", "body"), ["the column 'kidn' is missing (did you mean kind?)"]),
        (("--pair", "body"), ["a pair has two columns"]),
        (("--pair", "body", "kind", "--text", "body"), ["texts are single (--text body) or pairs"]),
        (("--text", "body", "--label", "kind", "--save-template", "README.md"), ["README.md is there already"]),
        (("--text", "body", "--label", "kind", "--demonstrations", 13, 1), ["left out: it is empty"]),
    ],
)
def test_columns_that_are_not_there_are_refused(model, table, tmp_path, words, messages, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("Mine.")
    refused(compare(model, table, tmp_path / "out", *words), *messages)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x" * 5000, "nowhere/\udcff.csv", "", ".", "nowhere.csv"])
def test_a_path_of_nothing_is_refused(model, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(compare(model, name, tmp_path / "out"))


# The cases that concern texts and files


@needs_cases
@pytest.mark.parametrize(
    ("case", "messages"),
    [
        ("lone-surrogate", [r"lone-surrogate/train.jsonl, line 10: 'text' holds '\ud83d'"]),
        ("deep-json", ["deep-json/train.jsonl, line 11: it is nested too deeply"]),
        ("mixed-pairs", ["mixed-pairs/train.jsonl, line 1: the key 'premise' must be there", "one form"]),
    ],
)
def test_cases_that_are_refused(tmp_path, case, messages):
    refused(compare(CASES / "llama" / "model", CASES / case, tmp_path / "out"), *messages)


@needs_cases
def test_the_case_of_deep_json_without_its_deep_line(tmp_path):
    lines = (CASES / "deep-json" / "train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[:10] + lines[11:]))
    (tmp_path / "test.jsonl").write_bytes((CASES / "deep-json" / "test.jsonl").read_bytes())
    done = compare(CASES / "llama" / "model", tmp_path, tmp_path / "out")
    refused(done, "train.jsonl, line 11: a number has too many digits")


@needs_cases
def test_the_case_of_a_question_among_its_demonstrations(tmp_path):
    folder = CASES / "question-among-demonstrations"
    done = compare(CASES / "llama" / "model", folder, tmp_path / "out", "--template", CASES / "words.toml")
    assert done.returncode == 0, done.stderr
    train = [json.loads(line)["text"] for line in (folder / "train.jsonl").read_text().splitlines()]
    asked = [json.loads(line)["text"] for line in (folder / "test.jsonl").read_text().splitlines()]
    for record in records_of(tmp_path / "out"):
        assert record["excluded"] == {"train": {"also in test": 6}}
        shown = {train[int(row["id"])] for row in record["demonstrations"]}
        assert not shown & {asked[int(row["id"])] for row in record["items"]}


@pytest.fixture
def hub(monkeypatch):
    """What stands for the package datasets: folders of JSON Lines, the names of classes as a card has them."""

    def load_dataset(path, configuration):
        assert configuration is None
        folder = Path(path)
        names = ["entailment", "neutral", "contradiction"] if (folder / "card.md").exists() else None
        files = {part: (folder / f"{part}.jsonl").read_text().splitlines() for part in ("train", "test")}
        return {part: Split([json.loads(line) for line in lines], names) for part, lines in files.items()}

    module = SimpleNamespace(load_dataset=load_dataset, disable_progress_bars=lambda: None)
    monkeypatch.setitem(sys.modules, "datasets", module)


@needs_cases
@pytest.mark.usefixtures("hub")
def test_the_cases_of_the_hub(tmp_path):
    llama = CASES / "llama" / "model"
    missing = compare(llama, f"hub:{CASES / 'hub-coarse-label'}", tmp_path / "out")
    refused(missing, "has the columns text, coarse_label; the column 'label' is missing", "--label")
    nulls = compare(llama, f"hub:{CASES / 'hub-nulls'}", tmp_path / "nulls", "--template", CASES / "words.toml")
    assert nulls.returncode == 0, nulls.stderr
    assert records_of(tmp_path / "nulls")[0]["excluded"] == {"train": {"empty": 1}}
    snli = compare(
        llama, f"hub:{CASES / 'snli-minus-one'}", tmp_path / "snli", "--template", "cb", "--natural", "--sets", 5
    )
    assert snli.returncode == 0, snli.stderr
    lines = (CASES / "snli-minus-one" / "train.jsonl").read_text().splitlines()
    labels = [json.loads(line)["label"] for line in lines]
    for record in records_of(tmp_path / "snli"):
        assert record["excluded"]["train"]["without label"] == labels.count(-1)
        for row in record["demonstrations"]:
            assert row["label"] == ["entailment", "neutral", "contradiction"][labels[int(row["id"])]]
            assert labels[int(row["id"])] >= 0


@needs_cases
def test_cases_whose_texts_are_read(tmp_path):
    from insitu.language import load_corpus

    assert load_corpus(CASES / "int-labels").labels == ("0", "1")
    braces = load_template(CASES / "braces-in-text" / "pair.toml").dress(load_corpus(CASES / "braces-in-text"))
    assert braces.train[0].text == "fill {hypothesis} 0 ? h0"
    assert load_corpus(CASES / "cjk-labels").labels == ("正面", "负面")

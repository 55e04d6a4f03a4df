"""The command line as a user meets it: its output and its exit code."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from insitu.claims.record import read_record, read_records
from insitu.cli import main
from insitu.cli.app import run
from insitu.exchange import load_prompts, save_prompts
from insitu.learners import LeastSquares, learner
from insitu.models import Causal, gradient_descent, save_network
from insitu.papers import claims
from insitu.seed import Seed
from insitu.tasks import Gaussian, LinearRegression

pytestmark = pytest.mark.usefixtures("as_users_run")
FAST = "sander2024.rotations-obey-a-three-term-recurrence"


def insitu(*words):
    """Run the command line in this process and keep what it printed."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["insitu", *map(str, words)]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as leave:
            code = leave.code or 0
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def test_the_installed_program_is_the_same_door():
    program = Path(sys.executable).with_name("insitu")
    done = subprocess.run([program, "claims", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(insitu("claims", "--json").stdout)
    wrong = subprocess.run([program, "reproduce", "nothing"], capture_output=True, text=True, check=False)
    refused(wrong, "no paper or claim is called 'nothing'")


def test_a_pipe_that_is_closed_is_no_error():
    """Also where what is written does not fit into the buffer of a pipe."""
    program = Path(sys.executable).with_name("insitu")
    with subprocess.Popen(
        [program, "claims", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_another_exit_is_no_closed_pipe():
    """Of a library that gives up, say; before, it passed for success."""
    with mock.patch("insitu.cli.app.app", side_effect=SystemExit(3)), pytest.raises(SystemExit, match="3"):
        run()


def test_a_locale_of_ascii_alone_is_no_error(reproduced):
    """The rule of this claim holds a letter that ASCII lacks."""
    folder, _ = reproduced
    program = Path(sys.executable).with_name("insitu")
    ascii_alone = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [program, "reproduce", FAST, "--seed", "5", "--out", folder, "--resume"]
    done = subprocess.run(words, capture_output=True, env=ascii_alone, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert b"?" in done.stdout


def arrays(batch=3, points=5, dim=2, out=None, queries=4, dtype="float64"):
    draw = np.random.Generator(np.random.PCG64(0)).normal
    ys = draw(size=(batch, points) if out is None else (batch, points, out))
    xs, asked = draw(size=(batch, points, dim)), draw(size=(batch, queries, dim))
    return {"xs": xs.astype(dtype), "ys": ys.astype(dtype), "queries": asked.astype(dtype)}


def refused(done, *words):
    """One paragraph on standard error, exit code 2, no traceback, nothing on standard output."""
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    return folder, insitu("reproduce", FAST, "--out", folder, "--strict", "--json", "--seed", 5)


def test_reproduce_writes_records_figures_and_a_report(reproduced):
    folder, done = reproduced
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    (record,), damaged = read_records(folder)
    assert damaged == []
    assert row["claim"] == record.claim == FAST
    assert row["verdict"] == "holds"
    assert row["seed"] == 5
    assert "figure" not in row
    assert FAST in (folder / "report.html").read_text()
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".svg", ".pdf"}


def test_resume_runs_nothing_twice(reproduced):
    folder, _ = reproduced
    done = insitu("reproduce", FAST, "--out", folder, "--seed", 5, "--resume")
    assert done.returncode == 0
    assert "from an earlier run" in done.stderr
    assert str(folder / "report.html") in done.stdout.replace("\n", "")


def test_report_rebuilds_the_same_page_from_the_records(reproduced):
    folder, _ = reproduced
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    assert insitu("report", folder).returncode == 0
    assert (folder / "report.html").read_bytes() == before


NEEDS_A_MODEL = "shen2024.pretrained-weights-are-not-sparse"


def test_claims_whose_model_is_not_here_are_named_first_and_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("INSITU_CACHE", str(tmp_path / "cache"))
    done = insitu("reproduce", FAST, NEEDS_A_MODEL, "--out", tmp_path / "out", "--json", "--seed", 5)
    assert done.returncode == 0, done.stderr
    assert [record["claim"] for record in json.loads(done.stdout)] == [FAST]
    first = done.stderr.splitlines()[0]
    assert f"left out: {NEEDS_A_MODEL}." in first
    assert "insitu lm fetch smollm2" in first
    refused(insitu("reproduce", NEEDS_A_MODEL, "--out", tmp_path / "new"), "nothing can run", "insitu lm fetch smollm2")


def test_strict_fails_where_a_claim_does_not_hold(reproduced, tmp_path):
    folder, _ = reproduced
    (path,) = (folder / "records").iterdir()
    record = replace(read_record(path), verdict="fails").sealed()
    other = tmp_path / "records" / path.name
    other.parent.mkdir()
    other.write_text(json.dumps(asdict(record)))
    words = ("reproduce", FAST, "--out", tmp_path, "--seed", 5, "--resume")
    assert insitu(*words).returncode == 0
    assert insitu(*words, "--strict").returncode == 1


def test_claims_lists_every_claim():
    rows = json.loads(insitu("claims", "--json").stdout)
    assert [row["claim"] for row in rows] == list(claims())
    assert set(rows[0]) == {"claim", "paper", "statement", "source", "rule", "quick_seconds", "full_hours"}


@pytest.mark.parametrize("command", [(), ("reproduce",), ("claims",), ("predict",), ("report",)])
def test_help_shows_an_example(command):
    done = insitu(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert not command or "Example" in done.stdout


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("out", [None, 1, 3])
def test_predict_answers_in_the_shape_and_precision_of_the_prompts(tmp_path, dtype, out):
    given = arrays(out=out, dtype=dtype)
    np.savez(tmp_path / "P.npz", **given)
    done = insitu("predict", "LeastSquares()", "--prompts", tmp_path / "P.npz", "--out", tmp_path / "A.npz", "--json")
    assert done.returncode == 0, done.stderr
    answers = np.load(tmp_path / "A.npz")["answers"]
    assert answers.dtype == dtype
    ys = given["ys"] if out else given["ys"][..., None]
    for b in range(3):
        weights = np.linalg.lstsq(given["xs"][b].astype("float64"), ys[b].astype("float64"), rcond=None)[0]
        expected = given["queries"][b] @ weights
        tolerance = 1e-10 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(answers[b], expected if out else expected[:, 0], rtol=tolerance, atol=tolerance)
    assert json.loads(done.stdout)["shape"] == list(answers.shape)


def test_predict_runs_a_checkpoint(tmp_path):
    prompt = LinearRegression(Gaussian(2)).sample(Seed(0), 3, 5, 4).prompt
    save_prompts(tmp_path / "P.npz", prompt)
    network = gradient_descent(dim=2, steps=3, rate=0.1, mask=Causal())
    save_network(network, tmp_path / "net")
    expression = f'Checkpoint("{tmp_path / "net"}")'
    done = insitu("predict", expression, "--prompts", tmp_path / "P.npz", "--out", tmp_path / "A.npz")
    assert done.returncode == 0, done.stderr
    expected = network.predict(prompt)[..., 0].detach().numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "A.npz")["answers"], expected)


def test_a_rate_beyond_the_limit_is_a_warning_that_names_it(tmp_path):
    given = arrays()
    np.savez(tmp_path / "P.npz", **given)
    words = ("--prompts", tmp_path / "P.npz", "--out", tmp_path / "A.npz")
    done = insitu("predict", "GradientDescent(steps=2, rate=50.0)", *words)
    largest = max(np.linalg.eigvalsh(x.T @ x / len(x))[-1] for x in given["xs"])
    assert done.returncode == 0
    assert f"limit 2 / lambda_max = {2 / largest:.4g}" in done.stderr
    assert (tmp_path / "A.npz").exists()
    assert insitu("predict", "GradientDescent(steps=2, rate=0.01)", *words).stderr == ""


def test_prompts_survive_their_file(tmp_path):
    for out in (1, 3):
        prompt = LinearRegression(Gaussian(2), out=out).sample(Seed(0), 3, 5, 4).prompt
        save_prompts(tmp_path / "P.npz", prompt)
        back = load_prompts(tmp_path / "P.npz")
        assert back.scalar is (out == 1)
        assert torch.equal(back.prompt.ys, prompt.ys)


def spoiled(**changes):
    given = arrays()
    return {name: value for name, value in (given | changes).items() if value is not None}


def with_number(name, value):
    given = arrays()
    given[name] = given[name].copy()
    given[name].flat[3] = value
    return given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (spoiled(ys=np.zeros((3, 6))), ["agree", "(3, 6"]),
        (spoiled(xs=np.zeros((3, 5))), ["xs has shape (3, 5)", "3 axes"]),
        (spoiled(queries=np.zeros((3, 4, 7))), ["queries (3, 4, 7)"]),
        (with_number("xs", np.nan), ["xs holds 1 numbers that are NaN or infinite"]),
        (with_number("ys", np.inf), ["ys holds 1 numbers that are NaN or infinite"]),
        (spoiled(xs=np.zeros((3, 0, 2)), ys=np.zeros((3, 0))), ["context (point)", "empty"]),
        (spoiled(xs=np.zeros((3, 5, 0)), queries=np.zeros((3, 4, 0))), ["dim", "empty"]),
        (spoiled(xs=np.zeros((3, 5, 2), dtype=int)), ["xs has dtype int64", "float32 or float64"]),
        (spoiled(xs=np.zeros((3, 5, 2), dtype="V2")), ["xs has dtype |V2", "bfloat16", "view('uint16')"]),
        (spoiled(xs=np.full((3, 5, 2), None, dtype=object)), ["pickle"]),
        (spoiled(queries=None), ["queries is missing"]),
    ],
)
def test_bad_prompts_are_refused_in_one_paragraph(tmp_path, given, words):
    np.savez(tmp_path / "P.npz", **given)
    done = insitu("predict", "Zero()", "--prompts", tmp_path / "P.npz", "--out", tmp_path / "A.npz")
    refused(done, *words)
    assert not (tmp_path / "A.npz").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short", b"\x80\x04N."])
def test_what_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "P.npz").write_bytes(content)
    refused(insitu("predict", "Zero()", "--prompts", tmp_path / "P.npz", "--out", tmp_path / "A.npz"), "npz")


def test_a_single_array_and_a_missing_file_are_refused(tmp_path):
    np.save(tmp_path / "P.npy", np.zeros(3))
    refused(insitu("predict", "Zero()", "--prompts", tmp_path / "P.npy", "--out", tmp_path / "A"), "single npy array")
    refused(insitu("predict", "Zero()", "--prompts", tmp_path / "none", "--out", tmp_path / "A"), "No such file")


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("Rigde(penalty=1.0)", ["'Rigde'", "did you mean Ridge?"]),
        ("Ridge(penalty=-1.0)", ["penalty", "not be negative", "-1.0"]),
        ("GradientDescent(steps=2, rate=-0.5)", ["rate", "not be negative"]),
        ("OnlineDescent(rate=-0.5)", ["rate", "not be negative"]),
        ("Ridge(strength=1.0)", ["its parameters are: penalty"]),
        ("__import__('os').system('true')", ["is not a learner"]),
        ("Checkpoint('nowhere')", ["is not a checkpoint"]),
        ("GradientDescent(steps=1, rate=0.1, start=(1.0, 2.0, 3.0))", ["start", "(3,)"]),
    ],
)
def test_bad_learners_are_refused(tmp_path, expression, words):
    np.savez(tmp_path / "P.npz", **arrays())
    refused(insitu("predict", expression, "--prompts", tmp_path / "P.npz", "--out", tmp_path / "A.npz"), *words)
    assert not (tmp_path / "A.npz").exists()


def test_the_prompts_are_never_overwritten(tmp_path):
    np.savez(tmp_path / "P.npz", **arrays())
    before = (tmp_path / "P.npz").read_bytes()
    refused(insitu("predict", "Zero()", "--prompts", tmp_path / "P.npz", "--out", tmp_path / "P.npz"), "not lost")
    assert (tmp_path / "P.npz").read_bytes() == before


def test_an_unknown_claim_names_near_ones(tmp_path):
    done = insitu("reproduce", "ding2024.prefix-is-gradient-decent", "--out", tmp_path / "new")
    refused(done, "did you mean", "ding2024.prefix-is-gradient-descent")
    assert not (tmp_path / "new").exists()


def test_an_output_folder_must_be_one(tmp_path):
    (tmp_path / "file").write_text("kept")
    refused(insitu("reproduce", FAST, "--out", tmp_path / "file"), "is a file")
    refused(insitu("reproduce", FAST, "--out", "/proc/nowhere"), "nothing can be written")
    refused(insitu("report", tmp_path / "nowhere"), "does not exist")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told(tmp_path):
    np.savez(tmp_path / "P.npz", **arrays())
    refused(insitu("predict", "Zero()", "--prompts", tmp_path / "P.npz", "--out", "/dev/full"), "No space left")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused(tmp_path):
    refused(insitu("reproduce", FAST, "--out", tmp_path / "new", "--device", "cuda"), "finds no GPU")
    assert not (tmp_path / "new").exists()


def test_every_learner_is_called_as_it_prints():
    assert repr(learner("LeastSquares()")) == repr(LeastSquares()) == "LeastSquares()"


def test_doctor_names_versions_and_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("INSITU_CACHE", str(tmp_path))
    state = json.loads(insitu("doctor", "--json").stdout)
    assert state["versions"]["torch"] == torch.__version__
    assert state["cache"] == str(tmp_path)
    assert "insitu lm fetch smollm2" in state["models"]["smollm2"]
    assert set(state["extras"]) == {"datasets", "pyarrow", "gguf", "nicegui", "peft", "tensorboard"}
    assert "torch" in insitu("doctor").stdout


def test_status_counts_what_is_done_and_left(reproduced, tmp_path):
    folder, _ = reproduced
    (row,) = json.loads(insitu("status", folder, "--json").stdout)["runs"]
    assert (row["scale"], row["seed"], row["verdicts"]) == ("quick", 5, {"holds": 1})
    assert len(row["left"]) == len(claims()) - 1
    assert row["seconds_left"] > 1
    assert "1 holds" in insitu("status", folder).stdout
    refused(insitu("status", tmp_path), "holds no records of claims")

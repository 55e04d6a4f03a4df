"""`insitu identify` as a user meets it: prompts out, answers in, a verdict, a page, and what is refused."""

import json

import numpy as np
import pytest
from tests.cli.test_cli import insitu, refused
from tests.few_families import few_families as few_families

from insitu import Seed
from insitu.exchange import load_prompts
from insitu.models import Decoder, DecoderArchitecture, gradient_descent, initialise_decoder, save_network

pytestmark = pytest.mark.usefixtures("as_users_run")
TRUTH = "GradientDescent(steps=2, rate=0.4)"


@pytest.fixture
def files(tmp_path):
    """Diagnostic prompts as files, with the answers of a learner that only they tell."""
    done = insitu(
        "identify", "--emit-prompts", tmp_path / "P.npz", "--dim", 2, "--points", 6, "--points", 2, "--count", 8
    )
    assert done.returncode == 0, done
    assert "P.npz" in done.stdout
    assert "P.n2.npz" in done.stdout
    pairs = []
    for name in ("P", "P.n2"):
        paths = tmp_path / f"{name}.npz", tmp_path / f"{name}.A.npz"
        assert insitu("predict", TRUTH, "--prompts", paths[0], "--out", paths[1]).returncode == 0
        pairs += ["--prompts", paths[0], "--answers", paths[1]]
    return pairs


def test_prompts_go_out_answers_come_in_and_the_learner_is_named(files, tmp_path):
    manifest = json.loads((tmp_path / "P.json").read_text())
    assert [row["points"] for row in manifest["files"]] == [6, 2]
    asked = load_prompts(tmp_path / "P.npz")
    for row in manifest["files"][0]["diagnostics"]:
        first, last = row["rows"]
        assert set(asked.names[first:last]) == {row["name"]}
        assert row["tells apart"]
    done = insitu("identify", *files, "--json")
    told = json.loads(done.stdout)
    assert told["verdict"] == "indistinguishable"
    assert told["best"]["learner"] == TRUTH
    assert told["prompts"] == asked.prompt.batch + load_prompts(tmp_path / "P.n2.npz").prompt.batch
    text = insitu("identify", *files, "--out", tmp_path / "page").stdout
    assert f"indistinguishable from {TRUTH}" in text
    assert "within the floor" in text
    page = (tmp_path / "page" / "identification.html").read_text()
    assert TRUTH in page
    for figure in ("implied-weights", "context-lengths"):
        assert (tmp_path / "page" / "figures" / f"{figure}.svg").exists()


def test_a_network_is_asked_itself_and_its_layers_are_shown(tmp_path):
    save_network(gradient_descent(2, 3, 0.3), tmp_path / "net")
    common = ("--points", 6, "--count", 8, "--out", tmp_path / "page")
    done = insitu("identify", "--model", tmp_path / "net", *common)
    assert "indistinguishable from GradientDescent(steps=3, rate=0.3)" in done.stdout, done
    assert (tmp_path / "page" / "figures" / "layers.svg").exists()
    assert "one layer" not in (tmp_path / "page" / "identification.html").read_text()
    learner = insitu("identify", "--model", "Mean()", "--dim", 2, *common[:-2], "--json")
    assert json.loads(learner.stdout)["best"]["learner"] == "Mean()"


@pytest.mark.usefixtures("few_families")
def test_a_decoder_is_asked_what_fits_its_positions(tmp_path):
    decoder = Decoder(DecoderArchitecture(dim=2, points=6, width=8, layers=1, heads=1))
    initialise_decoder(decoder, Seed(0))
    save_network(decoder, tmp_path / "net")
    told = json.loads(insitu("identify", "--model", tmp_path / "net", "--count", 8, "--json").stdout)
    assert {d["points"] for d in told["diagnostics"]} == {5, 2, 1}
    assert told["verdict"] == "none"
    refused(
        insitu("identify", "--model", tmp_path / "net", "--points", 9),
        "positions for 5 examples",
        "--points asks for 9",
    )


def changed(files, place, **arrays):
    path = files[place]
    np.savez(path, **{**np.load(path), **arrays})
    return files


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda f: [], ("--emit-prompts P.npz",)),
        (lambda f: f[:6], ("one --answers for every --prompts",)),
        (lambda f: changed(f, 3, answers=np.zeros((3, 4))), ("answers has shape (3, 4)", "one answer to every query")),
        (lambda f: changed(f, 3, answers=np.full(np.load(f[3])["answers"].shape, np.nan)), ("NaN or infinite",)),
        (lambda f: changed(f, 3, answers=np.ones(np.load(f[3])["answers"].shape, int)), ("float32 or float64",)),
        (lambda f: changed(f, 1, diagnostic=np.array(["one"])), ("one name for each of the",)),
        (lambda f: [*f[:3], f[1], *f[4:]], ("the array answers is missing",)),
    ],
)
def test_what_is_wrong_is_said_in_one_paragraph(files, wrong, words):
    refused(insitu("identify", *wrong(list(files))), *words)


def test_prompts_are_not_written_over_a_folder(tmp_path):
    refused(insitu("identify", "--emit-prompts", tmp_path), "is a folder")
    refused(insitu("identify", "--model", tmp_path / "nothing"), "is not a checkpoint: there is no such folder")


@pytest.mark.usefixtures("few_families")
def test_a_training_is_identified_step_by_step(tmp_path):
    config = tmp_path / "own.toml"
    config.write_text(
        '[task]\nkind = "LinearRegression"\nlaw = { kind = "Gaussian", dim = 2 }\n\n'
        '[network]\nkind = "AttentionNetwork"\nlayers = 1\n\n'
        "[training]\nsteps = 2\nrate = 0.01\nbatch = 8\npoints = 5\n"
    )
    assert insitu("train", config, "--out", tmp_path / "run").returncode == 0
    done = insitu("identify", tmp_path / "run", "--points", 5, "--count", 8, "--out", tmp_path / "page", "--json")
    found = json.loads(done.stdout)
    assert [row["step"] for row in found["checkpoints"]] == [1, 2]
    assert all({"verdict", "distances", "gains", "shift"} <= row.keys() for row in found["checkpoints"])
    assert json.loads((tmp_path / "page" / "along-training.json").read_text()) == found
    assert "Under shift" in (tmp_path / "page" / "training.html").read_text()
    refused(insitu("identify", tmp_path / "page"), "it holds no steps of a network")


def test_a_range_of_numbers_has_two_ends():
    refused(insitu("identify", "--lm", "stories260K", "--range", 3), "--range takes two whole numbers")

"""Models on which numbers were once wrong: kept outside of the repository, each beside the value that is right.

Those values come from one plain forward pass per label word. A small model of every kind is built in memory by
``architectures`` as well, so nothing depends on these files being there.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.cli.test_cli import insitu, refused
from tests.language.architectures import plainly

from insitu import InputError, Seed
from insitu.language import Labelled, Reader, load_corpus, load_language_model, load_template, pose, self_test
from insitu.language.measure.bench import set_up
from insitu.language.measure.compare import Comparison, compare
from insitu.language.measure.masks import FineTuning, mask
from insitu.language.measure.sparsity import find_weights, sparsities
from insitu.language.models.untrained import without_training

CASES = Path(__file__).parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not at {CASES}")

MODELS = (
    "alibi-bloom",
    "bigcode-value",
    "blank-is-a-token",
    "byt5-tokenizer",
    "eos-tokenizer",
    "llama",
    "local-attention-gpt-neo",
    "longrope-reuse",
    "moe-untrained",
    "no-cache-mamba",
    "opt-prefix",
    "roberta-positions",
    "sliding-window-words",
)
# Model, words, question and the right probability of a fact, as its README gives it.
GIVEN = [
    ("sliding-window-words", "words", "3", 0.0019),
    ("local-attention-gpt-neo", "words", "0", 0.2589),
    ("longrope-reuse", "letters", "0", 0.8637),
    ("roberta-positions", "words", "1", 0.9853),
]


def bench(name, words, **rest):
    model, template = load_language_model(CASES / name / "model"), load_template(CASES / f"{words}.toml")
    shots = {"words": 2, "letters": 1}[words]
    return set_up(model, load_corpus(CASES / "data"), template, Seed(0), shots=shots, items=6, **rest), shots


def in_context(name, words):
    one, shots = bench(name, words)
    records = compare(one, Comparison((shots,), 1, 1, (), (1,)))
    return one, next(record for _, _, record in records if record["arm"] == "in context")


@pytest.mark.parametrize(("name", "words", "question", "right"), GIVEN)
def test_the_given_values_come_out(name, words, question, right):
    _, record = in_context(name, words)
    (item,) = (item for item in record["items"] if item["id"] == question)
    assert item["probabilities"]["fact"] == pytest.approx(right, abs=5e-5)


@pytest.mark.parametrize("words", ["words", "letters"])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_every_probability_is_that_of_one_plain_forward_pass_a_word(name, words):
    one, record = in_context(name, words)
    rows = {row.id: row for row in one.corpus.train}
    shown = [Labelled(rows[d["id"]].text, d["label"]) for d in record["demonstrations"]]
    for item, row in zip(record["items"], one.items, strict=True):
        stem = "".join(f"Text: {d.text}\nKind: {dict(one.template.words)[d.label]}\n\n" for d in shown)
        prompt = one.model.encode(f"{stem}Text: {row.text}\nKind:")
        own = [one.model.encode(f"{stem}Text: {row.text}\nKind: {word}") for _, word in one.template.words]
        assert all(ids[: len(prompt)] == prompt for ids in own)
        _, labels = plainly(one.model.network, tuple(prompt), [tuple(ids[len(prompt) :]) for ids in own])
        for (label, _), p in zip(one.template.words, labels.softmax(-1).tolist(), strict=True):
            assert item["probabilities"][label] == pytest.approx(p, abs=1e-5)


@pytest.mark.parametrize("name", ["alibi-bloom", "longrope-reuse", "no-cache-mamba", "byt5-tokenizer"])
def test_the_command_ends_with_a_page(name, tmp_path, as_users_run):
    common = ("--data", CASES / "data", "--template", CASES / "letters.toml", "--shots", 1, "--sets", 1, "--items", 6)
    brief = ("--orders", 1, "--rates", 0.001, "--epochs", 1, "--device", "cpu")
    done = insitu("lm", "compare", "--model", CASES / name / "model", *common, *brief, "--out", tmp_path)
    assert done.returncode == 0, done
    assert (tmp_path / "compare.html").exists()


def test_a_tokeniser_that_ends_every_text_is_read_without_the_end():
    model = load_language_model(CASES / "eos-tokenizer" / "model")
    assert model.ending
    assert model.tokenizer("a").input_ids == [*model.encode("a"), *model.ending]


def test_words_of_a_language_without_spaces_are_scored_whole():
    model, template = (
        load_language_model(CASES / "blank-is-a-token" / "model"),
        load_template(CASES / "cjk-labels" / "cjk.toml"),
    )
    texts = [row.text for row in load_corpus(CASES / "cjk-labels").test[:2]]
    for form in (template, replace(template, space="")):
        questions = pose(model, form, [form.prompt(text) for text in texts])
        assert all(len(set(question.firsts)) == 1 for question in questions) == (form.space == " ")
        assert Reader(model).answers(questions).labels.isfinite().all()


def test_fused_weights_of_one_key_and_value_are_found():
    sizes = {(m.layer, m.kind): m.size for m in sparsities(find_weights(CASES / "bigcode-value" / "model"))}
    assert {sizes[layer, kind] for layer in (0, 1) for kind in ("query",)} == {256}
    assert {sizes[layer, kind] for layer in (0, 1) for kind in ("key", "value")} == {128}


def test_experts_are_drawn_anew():
    model = load_language_model(CASES / "moe-untrained" / "model")
    fresh, own = without_training(model, Seed(0)), dict(model.network.named_parameters())
    experts = [name for name in own if ".experts." in name]
    assert experts
    for name in experts:
        assert own[name].ndim == 3
        assert (fresh[name] - own[name]).abs().min() > 0
        assert fresh[name].std().item() == pytest.approx(own[name].std().item(), rel=0.2)


def test_lm_mask_runs_or_says_why_not(tmp_path):
    brief = FineTuning(shots=(1,), seeds=1, steps=1, batch=2)
    one, _ = bench("opt-prefix", "letters")
    more = set_up(one.model, load_corpus(CASES / "more"), one.template, Seed(0), shots=1, items=6)
    assert len([record for *_, record in mask([one], [more], brief)]) == 5
    with pytest.raises(InputError, match="the mask changes no answer"):
        self_test(load_language_model(CASES / "local-attention-gpt-neo" / "model")).require_prefix(40)


def test_the_command_refuses_a_mask_that_does_nothing(tmp_path, as_users_run):
    data = ("--train-data", CASES / "data", "--eval-data", CASES / "more", "--template", CASES / "letters.toml")
    how = ("--shots", 1, "--seeds", 1, "--steps", 1, "--items", 6, "--device", "cpu", "--out", tmp_path)
    model = CASES / "local-attention-gpt-neo" / "model"
    refused(insitu("lm", "mask", "--model", model, *data, *how), "prefix mask:", "the mask changes no answer")


def test_the_cases_are_the_ones_known_here():
    """A new folder with a model wants a line above."""
    assert {path.parent.name for path in CASES.glob("*/model")} == set(MODELS)
    assert json.loads((CASES / "llama" / "model" / "config.json").read_text())["model_type"] == "llama"

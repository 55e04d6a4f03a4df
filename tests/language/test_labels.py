"""Accuracy by the labels of demonstrations, against one plain forward pass for every label word."""

import pytest
import torch

from insitu.language import load_corpus, load_language_model, load_template, relabelled
from insitu.language.measure.bench import set_up
from insitu.language.measure.labels import label_accuracies
from insitu.seed import Seed


@pytest.fixture(scope="module")
def bench():
    model, template = load_language_model("stories260K"), load_template("subj")
    return set_up(model, load_corpus("subj"), template, Seed(0), shots=3, items=5, longest=20)


def likeliest(bench, template, text, shown):
    """The place of the label whose word is most probable behind the prompt."""
    scores = []
    for label, _ in template.words:
        prompt, whole = (
            bench.model.encode(template.prompt(text, shown) + end) for end in ("", f" {template.word(label)}")
        )
        logs = bench.model.network(torch.tensor([whole])).logits[0].log_softmax(-1)
        scores.append(sum(logs[i - 1, whole[i]].item() for i in range(len(prompt), len(whole))))
    return max(range(len(scores)), key=scores.__getitem__)


@torch.no_grad()
def test_accuracies_are_those_of_plain_forward_passes(bench):
    found = label_accuracies(bench, 2, 3)
    neutral = bench.template.renamed({"objective": "foo", "subjective": "bar"})
    for number in range(2):
        shown = bench.demonstrate(number, 3)
        drawn = relabelled(shown, bench.corpus.labels, "random", bench.seed / "set" / number / "labels" / "random")
        other = {"objective": "subjective", "subjective": "objective"}
        flipped = [type(d)(d.text, other[d.label]) for d in shown]
        arms = {
            "gold": (bench.template, shown),
            "random": (bench.template, drawn),
            "flipped": (bench.template, flipped),
        }
        for name, (template, own) in {**arms, "renamed": (neutral, shown), "none": (bench.template, ())}.items():
            right = [likeliest(bench, template, row.text, own) for row in bench.asked]
            assert found[name][number] == (torch.tensor(right) == bench.right).double().mean(), name


def test_kinds_of_labels_differ_on_the_same_texts(bench):
    shown = bench.demonstrate(0, 3)
    flipped = relabelled(shown, bench.corpus.labels, "flipped", Seed(0))
    assert [d.text for d in flipped] == [d.text for d in shown]
    assert all(a.label != b.label for a, b in zip(shown, flipped, strict=True))

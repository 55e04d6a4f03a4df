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
    return set_up(model, load_corpus("subj"), template, Seed(0), shots=3, items=5, longest=40)


def likeliest(bench, template, text, shown):
    """The place of the label whose word is most probable behind the prompt."""
    scores = []
    for label, _ in template.words:
        asked = template.prompt(text, shown)
        prompt, whole = bench.model.encode(asked), bench.model.encode(f"{asked} {template.word(label)}")
        logs = bench.model.network(torch.tensor([whole])).logits[0].log_softmax(-1)
        scores.append(sum(logs[i - 1, whole[i]].item() for i in range(len(prompt), len(whole))))
    return max(range(len(scores)), key=scores.__getitem__)


@torch.no_grad()
def test_accuracies_are_those_of_plain_forward_passes(bench):
    accuracies = label_accuracies(bench, 2, 3)
    neutral = bench.template.renamed({"objective": "foo", "subjective": "bar"})
    other = {"objective": "subjective", "subjective": "objective"}
    for number in range(2):
        shown = bench.demonstrate(number, 3)
        drawn = relabelled(shown, bench.corpus.labels, "random", bench.seed / "set" / number / "labels" / "random")
        flipped = [type(d)(d.text, other[d.label]) for d in shown]
        arms = {"gold": shown, "random": drawn, "flipped": flipped, "none": (), "renamed": shown}
        for name, own in arms.items():
            template = neutral if name == "renamed" else bench.template
            answers = [likeliest(bench, template, row.text, own) for row in bench.items]
            expected = (torch.tensor(answers) == bench.right).double().mean()
            assert accuracies[name][number] == expected, name


def test_kinds_of_labels_differ_on_the_same_texts(bench):
    shown = bench.demonstrate(0, 3)
    flipped = relabelled(shown, bench.corpus.labels, "flipped", Seed(0))
    assert [d.text for d in flipped] == [d.text for d in shown]
    assert all(a.label != b.label for a, b in zip(shown, flipped, strict=True))

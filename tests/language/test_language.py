import copy
import dataclasses
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.rounding import rounding
from torch.nn.functional import cross_entropy

from insitu.errors import InputError
from insitu.language import (
    TEMPLATES,
    Corpus,
    Labelled,
    Template,
    draw_orders,
    fine_tune,
    in_context,
    load_corpus,
    load_language_model,
    next_token_distributions,
    zero_shot,
)
from insitu.language.models.pretrained import model_folder
from insitu.metrics.distributions import kl_divergence, overlap_cosine, sensitivity, token_overlap, top_tokens
from insitu.seed import Seed

SUBJ = TEMPLATES["subj"]


@pytest.fixture(scope="module")
def model():
    return load_language_model("stories260K")


@pytest.fixture(scope="module")
def exact():
    """The same model in double precision, for what is computed in two ways."""
    return load_language_model("stories260K", dtype="float64")


# The longest sum is that over the vocabulary; ten sums follow each other in each of five layers. Logits and the moves
# of a weight, which are gradients of at most 1000 times the rate, stay below 30.
CLOSE = rounding(terms=512, size=30, steps=50)


@pytest.fixture(scope="module")
def corpus(model):
    return load_corpus("subj").where(lambda text: len(model.encode(text)) <= 40)


@pytest.fixture(scope="module")
def demonstrations(corpus):
    return corpus.demonstrate(Seed(0) / "demonstrations", 4)


# The pretrained model


def test_the_bundled_model_is_the_one_described(model):
    assert sum(p.numel() for p in model.network.parameters()) == 260_032
    assert (model.window, model.network.config.vocab_size) == (512, 512)
    assert not model.network.training
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}


def test_the_weights_are_trained(model):
    # An untrained network over 512 tokens is near log 512 = 6.24 nats a token.
    ids = torch.tensor([model.encode("Once upon a time, there was a little girl named Lily. She loved to play.")])
    assert model.network(input_ids=ids, labels=ids).loss < 1.5


def test_loading_draws_nothing_and_keeps_the_settings_of_transformers():
    from transformers.utils import logging

    state, level, bars = torch.get_rng_state(), logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_language_model("stories260K")
    assert torch.equal(torch.get_rng_state(), state)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)


def test_loading_is_silent(capfd):
    load_language_model("stories260K")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_folder_is_refused_whatever_it_makes_libraries_raise(name, tmp_path):
    place = Path(shutil.copytree(model_folder("stories260K"), tmp_path / "model"))
    content = (place / name).read_bytes()
    for cut in (len(content) // 3, len(content) - 8):
        (place / name).write_bytes(content[:cut])
        with pytest.raises(InputError, match="no language model could be loaded from"):
            load_language_model(place)


def test_an_unknown_model_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"no language model could be loaded from 'stories260k'.*did you mean stories260K"
    ):
        load_language_model("stories260k")
    with pytest.raises(InputError, match="no language model could be loaded"):
        load_language_model(tmp_path)


# In context


def test_padded_batches_answer_like_single_prompts(exact, corpus, demonstrations):
    texts = [row.text for row in corpus.test[:5]]
    prompts = [SUBJ.prompt(t, demonstrations[: i % 4]) for i, t in enumerate(texts)]
    assert len({len(exact.encode(p)) for p in prompts}) > 3
    together = next_token_distributions(exact, prompts, batch=3)
    for prompt, answer in zip(prompts, together, strict=True):
        logits = exact.network(input_ids=torch.tensor([exact.encode(prompt)])).logits[0, -1]
        torch.testing.assert_close(answer, logits.softmax(-1), rtol=0, atol=CLOSE)
    assert together.dtype == torch.float64
    torch.testing.assert_close(together.sum(-1), torch.ones(5, dtype=torch.float64))


def test_the_order_given_is_the_order_read(exact, corpus, demonstrations):
    text = corpus.test[0].text
    for order in itertools.islice(itertools.permutations(range(4)), 0, 24, 7):
        shown = [demonstrations[i] for i in order]
        body = "".join(f"Input: {d.text}\nType: {d.label}\n\n" for d in shown)
        expected = next_token_distributions(exact, [f"{body}Input: {text}\nType:"])
        torch.testing.assert_close(in_context(exact, SUBJ, shown, [text]), expected, rtol=0, atol=CLOSE)


def test_a_prompt_beyond_the_window_is_refused(model, corpus):
    with pytest.raises(InputError, match=r"prompt 1 has \d{3,} tokens and stories260K reads at most 512.*Type:"):
        next_token_distributions(model, ["short", SUBJ.prompt("Here.", corpus.train[:9])])
    with pytest.raises(InputError, match="there is no prompt"):
        next_token_distributions(model, [])
    with pytest.raises(InputError, match="batch must be a whole number of at least 1; got 0"):
        next_token_distributions(model, ["short"], batch=0)


# Templates


def test_label_tokens_stand_behind_the_prompt(model):
    prompt = SUBJ.prompt("a big dog .")
    assert prompt == "Input: a big dog .\nType:"
    pieces = model.tokenizer.convert_ids_to_tokens
    tokens = SUBJ.label_tokens(model.encode, prompt)
    assert {label: pieces(token) for label, token in tokens.items()} == {"objective": "▁o", "subjective": "▁s"}


def test_the_label_token_is_the_same_in_a_demonstration(model):
    shown = model.encode(SUBJ.prompt("a cat .", [Labelled("a big dog .", "subjective")]))
    asked = model.encode(SUBJ.prompt("a big dog ."))
    assert shown[: len(asked)] == asked
    assert shown[len(asked)] == SUBJ.label_tokens(model.encode, SUBJ.prompt("a big dog ."))["subjective"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "Type: "}, "answer must not end in white space.*'Type: '"),
        ({"words": (("a", " x"),)}, "word of 'a' must begin with a letter.*' x'"),
        ({"words": (("a", ""),)}, "word of 'a' must begin"),
    ],
)
def test_a_template_that_breaks_the_boundary_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SUBJ, **change)


def test_words_may_share_their_first_token_but_not_all(model):
    template = Template("", "Type:", (("a", "plotted"), ("b", "plots")))
    _, words = template.label_words(model.encode, template.prompt("x"))
    assert words["a"][0] == words["b"][0]
    with pytest.raises(InputError, match=r"'plots' is the same tokens as another of plotted, plots: \[9\]"):
        template.label_words(lambda text: [1] if text.endswith(":") else [1, 9], template.prompt("x"))

    def merging(text):
        return [len(word) for word in text.split("\n")]

    with pytest.raises(InputError, match="'plotted' changes the tokens of the prompt"):
        template.label_tokens(merging, template.prompt("x"))


@pytest.mark.parametrize("space", [" ", "", "\n"])
def test_a_word_stands_behind_a_space_or_a_line_break_or_at_once(model, space):
    template = Template("", "Type:", (("a", "plot"), ("b", "war")), space=space)
    shown = template.prompt("y", [Labelled("x", "a")])
    assert shown == f"x\nType:{space}plot\n\ny\nType:"
    context, words = template.label_words(model.encode, shown)
    assert {label: context + word for label, word in words.items()} == {
        "a": model.encode(f"{shown}{space}plot"),
        "b": model.encode(f"{shown}{space}war"),
    }
    with pytest.raises(InputError, match=r"space must be white space or empty; got '- '"):
        dataclasses.replace(template, space="- ")


def test_an_unknown_label_is_refused():
    with pytest.raises(InputError, match="no word for the label 'objectiv'; did you mean objective"):
        SUBJ.prompt("x", [Labelled("y", "objectiv")])


# Corpora


def test_the_bundled_corpus_is_as_described():
    corpus = load_corpus("subj")
    assert Counter(row.label for row in corpus.train) == {"objective": 300, "subjective": 300}
    assert Counter(row.label for row in corpus.test) == {"objective": 150, "subjective": 150}
    assert len({row.text for row in (*corpus.train, *corpus.test)}) == 900


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_demonstrations_are_balanced_distinct_and_placed_by_seed(count):
    corpus = load_corpus("subj")
    drawn = corpus.demonstrate(Seed(3), count)
    per_label = Counter(row.label for row in drawn)
    counts = [per_label[label] for label in corpus.labels]
    assert (len(set(drawn)), max(counts) - min(counts)) == (count, count % 2)
    assert drawn == corpus.demonstrate(Seed(3), count)
    assert drawn != corpus.demonstrate(Seed(4), count)


def test_either_label_may_come_first_or_alone():
    corpus = load_corpus("subj")
    assert {corpus.demonstrate(Seed(0) / i, 1)[0].label for i in range(20)} == set(corpus.labels)
    assert {corpus.demonstrate(Seed(0) / i, 4)[0].label for i in range(20)} == set(corpus.labels)


def test_rows_are_picked_by_number():
    corpus = load_corpus("subj")
    assert corpus.pick([5, 0]) == (corpus.train[5], corpus.train[0])
    for wrong in (600, -1):
        with pytest.raises(InputError, match=f"no train row {wrong}; rows are 0 to 599"):
            corpus.pick([wrong])


def test_too_many_rows_are_refused():
    corpus = load_corpus("subj")
    with pytest.raises(InputError, match=r"602 balanced demonstrations need 301 rows labelled '\w+'; there are 300"):
        corpus.demonstrate(Seed(0), 602)
    with pytest.raises(InputError, match="301 test rows were asked for; there are 300"):
        corpus.questions(Seed(0), 301)
    with pytest.raises(InputError, match="count must be a whole number of at least 1; got 0"):
        corpus.demonstrate(Seed(0), 0)


def test_questions_have_the_labels_in_proportion():
    """As they are in all rows; left to chance, fifty questions may be two thirds of one kind."""
    rows = tuple(Labelled(f"text {i}", "aab"[i % 3]) for i in range(300))
    corpus = Corpus("x", rows, rows)
    for count in (1, 7, 30, 299, 300):
        drawn = [corpus.questions(Seed(1) / i, count, proportional=True) for i in range(20)]
        shares = [sum(row.label == "a" for row in own) for own in drawn]
        assert all(
            abs(share - count * 2 / 3) < 1 and len(set(own)) == count for share, own in zip(shares, drawn, strict=True)
        )
    assert len({row for own in drawn for row in own}) == 300
    assert len({corpus.questions(Seed(1) / i, 1, proportional=True) for i in range(60)}) > 30, "every row has a chance"
    chance = [sum(row.label == "a" for row in corpus.questions(Seed(1) / i, 30)) for i in range(20)]
    assert max(abs(share - 20) for share in chance) > 1, "a saboteur that draws at random is told apart"


@pytest.mark.parametrize(("shots", "count"), [(1, 3), (2, 4), (3, 6), (4, 10), (9, 5)])
def test_orders_are_permutations_and_differ_while_they_can(shots, count):
    orders = draw_orders(Seed(1), shots, count)
    assert torch.equal(orders.sort(-1).values, torch.arange(shots).expand(count, shots))
    possible = len(list(itertools.permutations(range(min(shots, 5)))))
    assert len(set(map(tuple, orders.tolist()))) == min(count, possible)


GOOD = '{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n'


def folder_with(path, train, test=GOOD):
    for name, content in (("train", train), ("test", test)):
        if content is not None:
            (path / f"{name}.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_folder_is_read(tmp_path):
    corpus = load_corpus(folder_with(tmp_path, GOOD + "\n" + json.dumps({"text": "é\u2028z", "label": "a"})))
    assert corpus.labels == ("a", "b")
    assert corpus.train[-1].text == "é\u2028z"


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (None, r"cannot read .*train.jsonl: No such file"),
        (GOOD + "{text: 1}", r"train.jsonl, line 3: this is not JSON"),
        (GOOD + '\n{"text": "x"}', r"line 4: the key 'label' must be there"),
        (GOOD + '{"text": 1, "label": "a"}', r"line 3: 'text' must be there and hold a string; got 1"),
        (GOOD + "[1]", r"line 3: expected an object with 'text' and 'label'; got \[1\]"),
        (GOOD.encode() + b"\xff", r"train.jsonl is not UTF-8 text: byte 56"),
        ('{"text": "x", "label": "a"}', r"every train row has the label 'a'"),
        ("", "there is no train row"),
        (GOOD.replace('"b"', '"c"'), "test rows have the label 'b', which no train row has; the labels are a, c"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(tmp_path, train, message):
    with pytest.raises(InputError, match=message):
        load_corpus(folder_with(tmp_path, train))


def test_an_unknown_corpus_is_refused():
    with pytest.raises(InputError, match=r"no corpus is called 'subi'.*did you mean subj"):
        load_corpus("subi")


# Fine-tuning


def by_hand(model, demonstrations, batch, rate, epochs):
    """Plain PyTorch: a copy of the network, one prompt at a time, torch.optim.SGD."""
    network = copy.deepcopy(model.network).requires_grad_(True)
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)
    for _ in range(epochs):
        for start in range(0, len(demonstrations), batch):
            part = demonstrations[start : start + batch]
            optimiser.zero_grad()
            for d in part:
                ids = torch.tensor([model.encode(f"Input: {d.text}\nType: {d.label}")])
                asked = len(model.encode(f"Input: {d.text}\nType:"))
                logits = network(input_ids=ids).logits[0, asked - 1 : -1]
                (cross_entropy(logits, ids[0, asked:], reduction="sum") / len(part)).backward()
            optimiser.step()
    return network


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_descent_is_plain_gradient_descent(exact, demonstrations, batch):
    (weights,) = fine_tune(exact, SUBJ, demonstrations, rate=1e-3, epochs=[3], batch=batch)
    expected = dict(by_hand(exact, demonstrations, batch or 4, 1e-3, 3).named_parameters())
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name].detach(), rtol=0, atol=CLOSE)
    moved = max((w - p).abs().max().item() for w, p in zip(weights.values(), exact.network.parameters(), strict=True))
    assert moved > 1e-3


def test_the_model_stays_untouched(model, demonstrations):
    before = copy.deepcopy(model.network.state_dict())
    for weights in fine_tune(model, SUBJ, demonstrations, rate=5e-3, epochs=[0, 2]):
        zero_shot(model, SUBJ, ["a big dog ."], weights=weights)
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in model.network.parameters())


def test_trained_weights_answer_for_the_network(exact, corpus, demonstrations):
    texts = [row.text for row in corpus.test[:3]]
    start, end = (
        zero_shot(exact, SUBJ, texts, weights=w)
        for w in fine_tune(exact, SUBJ, demonstrations, rate=1e-3, epochs=[0, 3])
    )
    torch.testing.assert_close(start, zero_shot(exact, SUBJ, texts))
    trained = dataclasses.replace(exact, network=by_hand(exact, demonstrations, 4, 1e-3, 3).requires_grad_(False))
    torch.testing.assert_close(end, zero_shot(trained, SUBJ, texts), rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, "rate must be a finite number and be positive; got 0.0"),
        ({"epochs": []}, r"epochs must be rising whole numbers of at least 0; got \(\)"),
        ({"epochs": [2, 1]}, r"epochs must be rising.*\(2, 1\)"),
        ({"epochs": [-1]}, r"epochs must be rising.*\(-1,\)"),
        ({"batch": 0}, "batch must be a whole number of at least 1; got 0"),
    ],
)
def test_fine_tuning_refuses_wrong_numbers_at_once(model, demonstrations, change, message):
    with pytest.raises(InputError, match=message):
        fine_tune(model, SUBJ, demonstrations, **{"rate": 1e-3, "epochs": [1], **change})


def test_fine_tuning_needs_a_demonstration(model):
    with pytest.raises(InputError, match="batch must be a whole number of at least 1; got 0"):
        fine_tune(model, SUBJ, [], rate=1e-3, epochs=[1])


# Distances between distributions


@pytest.fixture(scope="module")
def pair():
    return tuple((Seed(0) / name).normal(5, 7, 30).mul(2).softmax(-1) for name in "pq")


def test_sensitivity_against_loops(pair):
    p = pair[0].numpy()
    for item, value in enumerate(sensitivity(pair[0]).tolist()):
        expected = 0.0
        for token in range(30):
            values = [p[order, item, token] for order in range(5)]
            centre = sum(values) / 5
            expected += (sum((v - centre) ** 2 for v in values) / 4) ** 0.5
        assert value == pytest.approx(expected, rel=1e-12)


def test_overlaps_and_divergence_against_loops(pair):
    p, q = (t[0].numpy() for t in pair)
    found = [f(pair[0][0], pair[1][0]).tolist() for f in (token_overlap, overlap_cosine, kl_divergence)]
    for item in range(7):
        a, b = p[item], q[item]
        common = set(np.argsort(-a)[:10].tolist()) & set(np.argsort(-b)[:10].tolist())
        above = sum(a[v] * b[v] for v in common)
        below = sum(a[v] ** 2 for v in common) * sum(b[v] ** 2 for v in common) * max(1, 10 - len(common))
        expected = [len(common) / 10, above / below**0.5, sum(a[v] * np.log(a[v] / b[v]) for v in range(30))]
        assert [f[item] for f in found] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_distributions_overlap_exactly(pair, dtype):
    tied = torch.full((3, 30), 1 / 30, dtype=dtype)
    for p in (*pair[0].to(dtype), tied):
        for measure in (token_overlap, overlap_cosine):
            assert measure(p, p.clone()).tolist() == [1.0] * len(p)
        assert kl_divergence(p, p.clone()).tolist() == [0.0] * len(p)
    # Equal answers in float64 differ from each other by nothing but the rounding of their mean.
    assert sensitivity(tied.expand(4, 3, 30)).max() < 1e-12


def test_nothing_common_is_zero():
    p = torch.arange(20.0).softmax(-1)
    assert token_overlap(p, p.flip(0)).item() == 0
    assert overlap_cosine(p, p.flip(0)).item() == 0


def test_distances_refuse_what_they_cannot_measure(pair):
    with pytest.raises(InputError, match="at least two of them; got 1"):
        sensitivity(pair[0][:1])
    for k in (0, 31):
        with pytest.raises(InputError, match=f"between 1 and the 30 tokens there are; got {k}"):
            token_overlap(*pair, k=k)


def test_a_corpus_without_questions_is_refused():
    with pytest.raises(InputError, match="there is no test row"):
        Corpus("x", (Labelled("a", "0"), Labelled("b", "1")), ())


def test_the_top_tokens_of_tied_distributions_are_those_of_a_sort():
    """Of equal probabilities the first tokens count; a saboteur takes the last ones."""
    p = (Seed(0) / "tied").integers(4, 50, 12).double()
    ranked = [sorted(range(12), key=lambda token: (-row[token], token)) for row in p.tolist()]
    for k in (1, 5, 12):
        expected = [sorted(own[:k]) for own in ranked]
        found = [row.nonzero()[:, 0].tolist() for row in top_tokens(p, k)]
        assert found == expected
        flipped = [sorted(11 - i for i in row.nonzero()[:, 0].tolist()) for row in top_tokens(p.flip(-1), k)]
        assert (flipped != expected) == (k < 12)

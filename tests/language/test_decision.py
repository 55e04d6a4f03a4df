"""Prompt or fine-tune: choices that do not look at the questions, conclusions from intervals, costs beforehand."""

import dataclasses
import math
import re
import sys
from pathlib import Path

import pytest
import torch

from insitu.errors import InputError
from insitu.language import Descent, Reader, fine_tune, load_corpus, load_language_model, load_template
from insitu.language.measure import forecast as forecasting
from insitu.language.measure import memory
from insitu.language.measure.bench import set_up
from insitu.language.measure.compare import ICL, Comparison, arm_name, compare
from insitu.language.measure.decision import chosen_training, decide
from insitu.language.measure.development import Development, hold_out
from insitu.language.models.self_test import known as self_tests
from insitu.report.compare_page import compare_page, conclusions, demonstrations
from insitu.seed import Seed

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.language.small_models import TEMPLATE, write_corpus, write_model

GENTLE, WILD = Descent(5e-2), Descent(50.0)
SETTING = Comparison((1, 3), 2, 3, (GENTLE, WILD), (1, 2, 3), development=6, every=False)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    place = tmp_path_factory.mktemp("decision")
    (place / "own.toml").write_text(TEMPLATE)
    model, corpus = load_language_model(write_model(place / "gpt2", "gpt2")), load_corpus(write_corpus(place / "data"))
    return set_up(model, corpus, load_template(place / "own.toml"), Seed(5), shots=3, items=8)


@pytest.fixture(scope="module")
def records(bench):
    return [record for _, _, record in compare(bench, SETTING)]


def one(records, arm, shots=3, number=0):
    (found,) = [r for r in records if (r["arm"], r["shots"], r["set"]) == (arm, shots, number)]
    return found


# Choosing


def test_development_rows_are_neither_shown_nor_asked(bench):
    rows = hold_out(bench, sets=2, shots=3, count=6).items
    shown = {row.id for number in (0, 1) for row in bench.demonstrate(number, 3)}
    assert len(rows) == 6
    assert not {row.id for row in rows} & shown
    assert set(rows) <= set(bench.corpus.train)


def test_too_few_rows_to_choose_on_are_refused(bench):
    few = dataclasses.replace(bench, pinned=tuple(row.id for row in bench.corpus.train[:-1]))
    count = len(few.pinned)
    with pytest.raises(InputError, match="of 24 train rows 1 are left"):
        hold_out(few, sets=1, shots=count, count=6)


def test_the_chosen_epoch_has_the_smallest_loss_on_development_rows(bench, records):
    """Losses by plain Python, from the answers after every epoch."""
    held_out, record = hold_out(bench, 2, 3, 6), one(records, arm_name(GENTLE))
    losses = []
    for weights in fine_tune(bench.model, bench.template, bench.demonstrate(0, 3), rate=5e-2, epochs=[1, 2, 3]):
        labels = Reader(bench.model, weights).answers(held_out.questions).labels.tolist()
        shares = [[math.exp(v - max(row)) for v in row] for row in labels]
        gold = [("fact", "view").index(row.label) for row in held_out.items]
        losses.append(-sum(math.log(s[g] / sum(s)) for s, g in zip(shares, gold, strict=True)) / len(gold))
    assert [look["loss"] for look in record["development"]] == pytest.approx(losses, abs=1e-5)
    assert record["chosen"] == 1 + losses.index(min(losses))
    assert record["looks"] == [record["chosen"]]


def test_the_choice_does_not_look_at_the_questions(bench, records):
    flipped = tuple(dataclasses.replace(row, label={"fact": "view", "view": "fact"}[row.label]) for row in bench.items)
    other = [record for _, _, record in compare(dataclasses.replace(bench, items=flipped), SETTING)]
    picks = [[(r["arm"], r["chosen"], r["set"]) for r in chosen_training(own)] for own in (records, other)]
    assert picks[0] == picks[1]
    accuracies = [decide(own, 3).tuning.accuracy.value for own in (records, other)]
    assert accuracies[0] == pytest.approx(1 - accuracies[1])


def test_a_rate_that_collapses_is_stopped_and_said(bench, records):
    wild = one(records, arm_name(WILD))
    assert wild["collapsed"]
    assert len(wild["development"]) == 1 < len(SETTING.epochs)
    assert not one(records, arm_name(GENTLE))["collapsed"]
    assert any(
        "gd all 50 (3 demonstrations, 2 of 2 sets) collapsed by epoch 1" in told for told in conclusions(records)
    )


def test_every_epoch_is_answered_on_request_and_a_collapsed_run_ends_early(bench):
    setting = dataclasses.replace(SETTING, every=True, shots=(2,), sets=1)
    found = [record for _, _, record in compare(bench, setting)]
    assert one(found, arm_name(GENTLE), 2)["looks"] == [1, 2, 3]
    assert len(one(found, arm_name(WILD), 2)["looks"]) <= 1
    assert "untrained" in {r["arm"] for r in found}


def test_a_model_that_is_not_a_number_any_more_has_no_epoch_chosen(bench):
    development = Development(hold_out(bench, 1, 2, 6))
    broken = {name: torch.full_like(w, math.nan) for name, w in bench.model.network.named_parameters()}
    assert development.collapse(development.score(broken)) == "the loss is not a number any more"


# Reading


def test_answers_without_demonstrations_are_read_once(bench, monkeypatch):
    seen = []
    answers = Reader.answers

    def spy(self, questions, **how):
        seen.append(questions == bench.questions)
        return answers(self, questions, **how)

    monkeypatch.setattr(Reader, "answers", spy)
    found = [r for _, _, r in compare(bench, dataclasses.replace(SETTING, descents=())) if r["arm"] == "zero-shot"]
    assert sum(seen) == 1
    assert len(found) == 4
    assert len({r["seconds"] for r in found}) == 1
    assert len({str(r["items"]) for r in found}) == 1


def test_every_different_order_is_kept_and_averaged(records):
    for shots, count in ((1, 1), (3, 3)):
        own = [r for r in records if r["shots"] == shots and r["set"] == 0]
        arms = [ICL, "another order", "order 3"] if count > 1 else [ICL]
        items = [one(own, arm, shots)["items"] for arm in arms]
        averaged = one(own, "orders averaged", shots)["items"]
        assert len({tuple(one(own, arm, shots)["order"]) for arm in arms}) == count
        for place, item in enumerate(averaged):
            # The mean of the words' probabilities, then their shares.
            shares = [own_items[place]["probabilities"]["fact"] for own_items in items]
            assert min(shares) - 1e-9 <= item["probabilities"]["fact"] <= max(shares) + 1e-9


# Deciding


def record(arm, number, right, *, shots=4, **more):
    """A record in which so many of 40 texts, the last ones, are answered right."""
    items = []
    for i in range(40):
        label = ("a", "b")[i % 2]
        sure = 0.9 if i >= 40 - right else 0.1
        items.append({"id": str(i), "label": label, "probabilities": {label: sure, ("b", "a")[i % 2]: 1 - sure}})
    for item in items:
        item["probabilities"] = {name: item["probabilities"][name] for name in ("a", "b")}
    common = {"arm": arm, "shots": shots, "set": number, "items": items, "tokens": 10.0, "seconds": 4.0}
    return {**common, "order": [0, 1, 2, 3], "collapsed": "", **more}


def trained(number, right, losses, chosen, arm="gd all 0.1"):
    looks = [{"loss": loss, "objective": loss, "constant": False} for loss in losses]
    how = {"batch": None, "part": "all"}
    more = {"development": looks, "epochs": list(range(1, len(looks) + 1)), "chosen": chosen, "how": how}
    return record(arm, number, right, **more, **{"training seconds": 30.0, "reading seconds": 2.0})


def case(zero, prompting, tuning, sets=6):
    """Records in which every set answers alike but for one text."""
    found = []
    for number in range(sets):
        slip = number % 2
        found += [record("zero-shot", number, zero), record(ICL, number, prompting - slip)]
        found += [record("calibrated", number, prompting), trained(number, tuning - slip, [0.5], 1)]
    return found


@pytest.mark.parametrize(
    ("rights", "action"),
    [
        ((20, 38, 26), "prompt"),
        ((20, 26, 38), "fine-tune"),
        ((38, 37, 26), "zero-shot"),
        ((19, 20, 20), "neither"),
        ((20, 23, 23), "unclear"),
        ((30, 34, 35), "open"),
    ],
)
def test_the_action_is_what_the_intervals_say(rights, action):
    assert decide(case(*rights), 4).action == action


def test_the_decision_counts_by_hand():
    decision = decide(case(20, 38, 26), 4)
    assert decision.prompting.accuracy.value == pytest.approx((38 + 37) / 80)
    assert decision.difference.value == pytest.approx((26 - 38) / 40)
    assert decision.difference.high < 0
    assert decision.commonest == 0.5
    assert decision.prompting.brier.value == pytest.approx((37.5 * 2 * 0.01 + 2.5 * 2 * 0.81) / 40)
    assert decision.prompting.seconds == pytest.approx(0.1)
    assert decision.worth_training == pytest.approx(30 / (0.1 - 0.05))
    low, high = decision.prompting.accuracy.low, decision.prompting.accuracy.high
    assert low < 0.9 < decision.prompting.accuracy.value < high


def test_sets_that_an_arm_lacks_and_orders_that_a_set_lacks_are_left_out():
    """As where a folder holds records of another setting besides."""
    found = case(20, 38, 26, sets=3)
    more = [record(ICL, 3, 40), record("another order", 0, 1, order=[1, 0, 2, 3])]
    more += [record("another order", number, 1, order=[0, 1, 2, 3]) for number in (1, 2)]
    assert decide([*found, *more], 4).prompting.accuracy == decide(found, 4).prompting.accuracy


def test_what_was_not_trained_is_not_judged():
    first, *_ = conclusions([r for r in case(20, 38, 26) if not r["arm"].startswith("gd")])
    assert first.startswith("No rate was chosen for fine-tuning")


def test_nothing_stands_without_an_interval():
    """All right on every text: neither the share nor a difference of nothing is certain."""
    decision = decide(case(40, 40, 40, sets=1), 4)
    assert decision.zero_shot.accuracy.low == pytest.approx(0.025 ** (1 / 40))  # Clopper and Pearson at 40 of 40
    assert decision.difference.low == pytest.approx(0.05 ** (1 / 40) - 1)


def test_training_is_chosen_by_development_rows_alone():
    found = [trained(0, 39, [0.9, 0.7], 2, "gd all 1"), trained(0, 20, [0.4, 0.6], 1, "gd all 2")]
    assert [r["arm"] for r in chosen_training(found)] == ["gd all 2"]
    broken = trained(0, 39, [math.inf], 0, "gd all 3")
    assert [r["arm"] for r in chosen_training([broken, *found])] == ["gd all 2"]


@pytest.mark.parametrize(
    ("rights", "sentence"),
    [
        ((20, 38, 26), r"Prompt rather than fine-tune: with 4 demonstrations, .* points fewer \(\d+ to \d+\)"),
        ((20, 26, 38), r"Fine-tune rather than prompt: .* 30 points more \(\d+ to \d+\)"),
        ((38, 37, 26), r"Use no demonstrations: without any, .* restricted to the labels, 95"),
        ((19, 20, 20), r"Use neither with this model, .* commonest label is right for 50"),
        ((20, 23, 23), r"Measure more before you choose: .* commonest label, 50.* measure 160 texts \(--items 160\)"),
        ((30, 34, 35), r"Prompt, since no benefit of fine-tuning is established: .* may be chance"),
    ],
)
def test_the_first_sentence_says_what_to_do(rights, sentence):
    first, *_ = conclusions(case(*rights))
    assert re.match(sentence, first), first
    assert first.count(" to ") >= 2


# The page


def test_the_page_begins_with_the_conclusion(bench, records, tmp_path):
    page = compare_page(records, tmp_path).read_text(encoding="utf-8")
    plain = page.replace("&#x27;", "'").replace("&quot;", '"')
    assert plain.index(conclusions(records)[0]) < plain.index("<h2>")
    assert bench.template.prompt(bench.texts[0], bench.demonstrate(0, 3)) in plain
    assert "gpt2 (GPT2LMHeadModel, " in plain
    assert 'href="figures/compare-1.svg"' in page
    assert (tmp_path / "figures" / "compare-1.pdf").exists()
    # Tables become cards where the screen is narrow; nothing scrolls sideways.
    assert page.count("<table") == page.count('class="stack ')
    assert 'class="scroll"' not in page


def test_demonstrations_are_shown_set_by_set(bench, records):
    told = demonstrations(records)
    assert len(told) == 2
    assert all(row.text in told[1] and f"[{row.label}]" in told[1] for row in bench.demonstrate(1, 3))


# Beforehand


def test_the_forecast_adds_up_over_records(bench, records, monkeypatch):
    monkeypatch.setattr(forecasting, "timed", lambda work: 2.0)
    expected = forecasting.forecast(bench, SETTING)
    assert sum(map(expected.of, records)) == pytest.approx(expected.seconds)


def test_the_forecast_counts_the_tokens_that_are_read(bench, monkeypatch):
    """A second of forecast for every token, against what the network's embedding sees."""
    monkeypatch.setattr(forecasting.MeasuredPace, "per_token", lambda self, shown: 1.0)
    setting = dataclasses.replace(SETTING, descents=(), development=0)
    expected = forecasting.forecast(bench, setting).seconds
    seen = []
    embedding = bench.model.network.get_input_embeddings()
    hook = embedding.register_forward_pre_hook(lambda module, given: seen.append(given[0].numel()))
    list(compare(bench, setting))
    hook.remove()
    # Beginnings that are shared beyond the demonstrations are read once, and content-free prompts come on top.
    assert expected / 1.25 < sum(seen) < expected * 1.25


def test_what_the_first_reading_alone_does_is_not_forecast(bench, monkeypatch):
    """The self-test belongs to no question: it is over when the first probe is timed."""
    fresh = dataclasses.replace(bench, model=dataclasses.replace(bench.model))
    tried = []
    monkeypatch.setattr(forecasting, "timed", lambda work: tried.append(fresh.model in self_tests) or 2.0)
    forecasting.MeasuredPace(fresh, SETTING)
    assert tried
    assert all(tried)


def test_training_is_forecast_by_epochs_and_looks(bench, monkeypatch):
    monkeypatch.setattr(forecasting.MeasuredPace, "per_token", lambda self, shown: 0.0)
    monkeypatch.setattr(forecasting.MeasuredPace, "measured", lambda self, how, shots: 10.0 * shots)
    arms = forecasting.forecast(bench, SETTING).arms
    assert [arms[shots, arm_name(GENTLE)] for shots in (1, 3)] == [30.0, 90.0]


def test_too_little_memory_is_refused_before_anything_is_read(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    with pytest.raises(InputError, match=r"GB of memory are needed beside the model .* and 0\.0 are free"):
        compare(bench, SETTING, tmp_path)
    assert not list(tmp_path.iterdir())


def test_more_demonstrations_than_rows_of_a_label_are_refused(bench):
    with pytest.raises(InputError, match=r"25 balanced demonstrations need 13 rows labelled '\w+'; there are 12"):
        compare(bench, dataclasses.replace(SETTING, shots=(25,)))


def test_one_question_is_refused(bench):
    with pytest.raises(InputError, match="needs at least two of them"):
        compare(dataclasses.replace(bench, items=bench.items[:1]), SETTING)


def test_memory_grows_with_what_needs_it(bench):
    base = memory.memory_needed(bench, 3, 2, (GENTLE,))
    assert memory.memory_needed(bench, 3, 2, (Descent(0.1, None, "adam"),)).training > base.training
    assert memory.memory_needed(bench, 3, 2, (Descent(0.1, part="value:deep"),)).training < base.training
    assert memory.memory_needed(bench, 3, 4, (GENTLE,)).answers > base.answers
    assert memory.memory_needed(dataclasses.replace(bench, batch=2), 3, 2, (GENTLE,)).reading < base.reading

"""One checkpoint fine-tuned under two masks: what is trained on, what is asked, and that only the mask differs."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from tests.cli.test_cli import insitu, refused
from tests.language.small_models import TEMPLATE, write_corpus, write_model
from tests.papers.language_models import fine_tunings_in_which_prefix_helps
from tests.rounding import rounding

from insitu import InputError, Seed
from insitu.language import load_corpus, load_language_model, load_template, prefix_attention
from insitu.language.measure.bench import set_up
from insitu.language.measure.masks import (
    ARMS,
    TUNED,
    FewShotEpisodes,
    FineTuning,
    advantage,
    collate,
    episode,
    episode_loss,
    fine_tuned,
    mask,
    without_items,
)
from insitu.language.models.self_test import self_test, with_network

# Sums of at most 300 terms, ten after another in each of three layers, of logits below 30.
CLOSE = rounding(terms=300, size=30, steps=30)
BRIEF = FineTuning(shots=(1, 2), seeds=1, steps=3, batch=2, rate=1e-2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mask")
    (folder / "own.toml").write_text(TEMPLATE)
    for number, name in enumerate(("one", "other", "asked")):
        write_corpus(folder / name, seed=number)
    for kind in ("llama", "gpt2"):
        write_model(folder / kind, kind)
    return folder


def benches(place, kind="llama", dtype="float32"):
    model, template = load_language_model(place / kind, dtype=dtype), load_template(str(place / "own.toml"))
    corpora = [load_corpus(place / name) for name in ("one", "other", "asked")]
    return [set_up(model, corpus, template, Seed(0), shots=2, items=6) for corpus in corpora]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_loss_asks_for_the_label_alone_and_the_label_is_not_leaked(place, kind):
    """The loss of the collated batch is that of reading every episode by itself, token after token."""
    mixture = benches(place, kind, "float64")[:2]
    network = mixture[0].model.network
    drawn = [episode(mixture, (1, 2), Seed(3) / i) for i in range(4)]
    for attention in ("prefix", "causal"):
        batch = collate(drawn, attention)
        whole = episode_loss(network, batch).item()
        assert episode_loss(network, batch, padding=False).item() == pytest.approx(whole, rel=1e-5)
        apart, count = 0.0, 0
        for one in drawn:
            inside = torch.tensor([one.prefix if attention == "prefix" else 0])
            told = one.prompt
            for token in one.answer:
                with prefix_attention(network, inside):
                    logits = network(input_ids=torch.tensor([told])).logits[0, -1]
                apart -= logits.log_softmax(-1)[token].item()
                told, count = (*told, token), count + 1
        # Whatever the model's precision, transformers sums the loss over the vocabulary in single precision.
        assert whole == pytest.approx(apart / count, abs=rounding(terms=300, size=7, dtype=torch.float32))
    assert (batch["labels"] != -100).sum() == sum(len(one.answer) for one in drawn)
    # Another answer changes nothing that was said before it.
    one = drawn[0]
    other = type(one)(one.prompt, tuple((t + 1) % 20 for t in one.answer), one.prefix)
    said = []
    for episode_ in (one, other):
        inputs = collate([episode_], "prefix")
        with prefix_attention(network, inputs["prefix"]):
            said.append(network(input_ids=inputs["input_ids"]).logits[0, len(one.prompt) - 1])
    torch.testing.assert_close(*said, atol=CLOSE, rtol=0)
    assert 0 < one.prefix < len(one.prompt)


def test_episodes_come_from_every_data_set_and_number_of_demonstrations(place):
    mixture = benches(place)[:2]
    asked = FewShotEpisodes(mixture, FineTuning(shots=(1, 2), steps=10, batch=4), Seed(0))
    assert len(asked) == 40
    assert asked[3] == asked[3]
    colon = mixture[0].model.encode("Kind:")[-1]
    # Two colons for every demonstration and for the question.
    assert {asked[i].prompt.count(colon) // 2 - 1 for i in range(40)} == {1, 2}
    texts = {bench.corpus.name: [bench.model.encode(row.text) for row in bench.corpus.train] for bench in mixture}

    def origin(one):
        held = ",".join(map(str, one.prompt))
        return {name for name, rows in texts.items() if any(",".join(map(str, r[1:])) in held for r in rows)}

    assert set().union(*map(origin, (asked[i] for i in range(20)))) == {"one", "other"}


def test_the_same_seed_trains_alike_and_only_the_mask_differs(place, tmp_path, monkeypatch):
    mixture = benches(place)[:2]
    monkeypatch.chdir(tmp_path)
    before = {k: v.clone() for k, v in mixture[0].model.network.state_dict().items()}
    once, again = (fine_tuned(mixture, BRIEF, "prefix", Seed(1)).network.state_dict() for _ in range(2))
    causal = fine_tuned(mixture, BRIEF, "causal", Seed(1)).network.state_dict()
    name = "model.layers.0.self_attn.q_proj.weight"
    torch.testing.assert_close(once[name], again[name], atol=0, rtol=0)
    assert (once[name] - causal[name]).abs().max() > 1e-5
    assert (once[name] - before[name]).abs().max() > 1e-3
    for key, value in mixture[0].model.network.state_dict().items():
        torch.testing.assert_close(value, before[key], atol=0, rtol=0)
    assert not list(tmp_path.iterdir())


def test_training_lowers_the_loss_under_its_own_mask(place):
    mixture = benches(place)[:1]
    drawn = [episode(mixture, (2,), Seed(0) / "kept" / i) for i in range(12)]
    setting = FineTuning(shots=(2,), steps=30, batch=8, rate=3e-3)
    trained = fine_tuned(mixture, setting, "prefix", Seed(0))
    losses = [episode_loss(m.network, collate(drawn, "prefix")).item() for m in (mixture[0].model, trained)]
    assert losses[1] < losses[0] - 0.3


def test_adapters_alone_are_trained_under_a_mask_and_merged_into_a_network_of_the_same_kind(place):
    mixture = benches(place)[:1]
    before = {name: weight.clone() for name, weight in mixture[0].model.network.state_dict().items()}
    drawn = [episode(mixture, (2,), Seed(0) / "kept" / i) for i in range(12)]
    setting = FineTuning(shots=(2,), steps=30, batch=8, rate=1e-2, part="lora:2")
    trained = fine_tuned(mixture, setting, "prefix", Seed(0)).network
    start = mixture[0].model.network
    inputs = collate(drawn, "prefix")
    losses = [episode_loss(network, inputs, padding=True).item() for network in (start, trained)]
    assert losses[1] < losses[0] - 0.05
    after = trained.state_dict()
    assert after.keys() == before.keys()
    moved = {
        name: torch.linalg.svdvals(after[name] - before[name]) for name in before if not after[name].equal(before[name])
    }
    assert moved  # by as much as the rank of the adapters allows
    assert all(sizes[2] < 1e-5 * sizes[0] for sizes in moved.values())
    assert all(weight.equal(before[name]) for name, weight in start.state_dict().items())


def test_a_part_that_is_no_adapter_is_refused():
    with pytest.raises(InputError, match=r"part must be all or lora:RANK; got 'value:mid'"):
        FineTuning(part="value:mid")


def test_records_hold_every_answer_and_are_taken_up_again(place, tmp_path):
    *mixture, asked = benches(place)
    arms = ARMS[:3]
    records = [r for _, _, r in mask(mixture, [asked], BRIEF, tmp_path, arms=arms)]
    assert [r["arm"] for r in records] == [arm.name for arm in arms]
    (own,) = records[2]["asked"]
    assert set(own["right"]) == {"1", "2"}
    assert all(len(right) == len(own["items"]) == 6 for right in own["right"].values())
    assert len(own["demonstrations"]) == 2
    assert records[0]["asked"][0]["demonstrations"] == []
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "records").glob("*.json")}
    again = [r for _, _, r in mask(mixture, [asked], BRIEF, tmp_path, arms=arms, resume=True)]
    assert [r["asked"] for r in again] == [r["asked"] for r in records]
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_the_interval_counts_seeds_and_questions():
    names = (TUNED["prefix"].name, TUNED["causal"].name)
    found = advantage(fine_tunings_in_which_prefix_helps(), *names)
    rows = {(r["arm"], r["set"]): r["asked"][0]["right"]["4"] for r in fine_tunings_in_which_prefix_helps()}
    ahead, behind = (torch.tensor([rows[name, seed] for seed in range(4)]).double() for name in names)
    gaps = ahead - behind
    by_seed, by_item = gaps.mean(1).std() / 2, gaps.mean(0).std() / math.sqrt(50)
    assert found.error == pytest.approx(math.hypot(by_seed, by_item))
    assert 4 <= found.samples <= 54
    assert found.interval()[0] > 0
    assert advantage(fine_tunings_in_which_prefix_helps(), *names[::-1]).value == -found.value
    assert advantage(fine_tunings_in_which_prefix_helps(seeds=1), *names).samples == 50


def test_the_command_writes_a_page_and_refuses_what_it_cannot_do(place, tmp_path, as_users_run):
    common = (
        "--model",
        place / "gpt2",
        "--template",
        place / "own.toml",
        "--device",
        "cpu",
        "--steps",
        2,
        "--items",
        6,
    )
    data = ("--train-data", place / "one", place / "other", "--eval-data", place / "asked")
    small = ("--episodes", 2, "--shots", 1, 2, "--seeds", 2)
    done = insitu("lm", "mask", *common, *data, *small, "--json", "--out", tmp_path)
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    assert {row["arm"] for row in told["arms"]} == {arm.name for arm in ARMS}
    assert {row["shots"] for row in told["arms"]} == {1, 2}
    gap = told["prefix minus causal"]["fine-tuned"]
    assert gap["low"] <= gap["value"] <= gap["high"]
    page = (tmp_path / "mask.html").read_text()
    assert "prefix, fine-tuned" in page
    assert "<svg" in page
    twice = ("--train-data", place / "one", "--eval-data", place / "one")
    refused(insitu("lm", "mask", *common, *twice, "--out", tmp_path), "must differ", "in both: ['one']")
    wrong = (*common, "--template", "subj")
    refused(insitu("lm", "mask", *wrong, *data, "--out", tmp_path), "--template was given 2 times for 3 data sets")


def test_numbers_out_of_range_are_refused():
    for wrong in ({"shots": ()}, {"shots": (0,)}, {"seeds": 0}, {"steps": 0}, {"rate": 0.0}):
        with pytest.raises(InputError):
            FineTuning(**wrong)


def test_arms_that_answer_alike_are_not_known_to_be_equal():
    found = advantage(fine_tunings_in_which_prefix_helps(), TUNED["prefix"].name, TUNED["prefix"].name)
    low, high = found.interval()
    assert found.value == 0
    assert low < 0 < high


def test_a_held_out_text_is_not_trained_on(place):
    one, other, asked = benches(place)
    row = asked.items[0]
    spaced = replace(row, text=f"  {row.text.replace(' ', '  ')} ", id="copy")
    leaking = replace(other, corpus=replace(other.corpus, train=(*other.corpus.train, spaced)))
    kept = without_items(leaking, [asked])
    assert kept.corpus.train == other.corpus.train
    assert [(gone.id, gone.reason) for gone in kept.corpus.excluded] == [("copy", "also in test")]
    assert without_items(other, [asked]) is other
    (_, _, record), *_ = mask([one, leaking], [asked], BRIEF)
    assert record["train"] == [one.about(), kept.about()]


def test_a_model_that_fine_tuning_breaks_is_no_result(place):
    *mixture, asked = benches(place)
    wild = replace(BRIEF, rate=1e30)
    with pytest.raises(InputError, match=r"fine-tuning at rate 1e\+30 broke the model: it answers with nan"):
        list(mask(mixture, [asked], wild, arms=[TUNED["causal"]]))


def test_a_fine_tuned_model_is_not_tested_anew(place):
    """The same architecture allows the same short cuts; one of another precision is tested by itself."""
    model = benches(place)[0].model
    assert self_test(with_network(model, model.network)) is self_test(model)
    double = with_network(model, copy.deepcopy(model.network).double())
    assert self_test(double) is not self_test(model)

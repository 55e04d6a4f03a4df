"""What ``insitu lm`` measures, against plain Python on models and data of a user's own."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from insitu.errors import InputError
from insitu.language import Descent, fine_tune, load_corpus, load_language_model, load_template, zero_shot
from insitu.language.measure.bench import set_up
from insitu.language.measure.compare import ICL, READINGS, Comparison, compare
from insitu.language.measure.drift import drift_along
from insitu.language.measure.order import Orders, order_sensitivity, profile_difference
from insitu.language.measure.sparsity import THRESHOLDS, find_weights, sparsities
from insitu.metrics.distributions import PENALTIES, calibration_error, overlap_cosine, sensitivity
from insitu.seed import Seed

sys.path.insert(0, str(Path(__file__).parent))
from tests.language.small_models import KINDS, TEMPLATE, write_corpus, write_model
from tests.rounding import rounding


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measurements")
    (folder / "own.toml").write_text(TEMPLATE)
    write_corpus(folder / "data")
    for kind in KINDS:
        write_model(folder / kind, kind)
    return folder


@pytest.fixture(scope="module")
def bench(place):
    model, corpus = load_language_model(place / "gpt2", dtype="float64"), load_corpus(place / "data")
    return set_up(model, corpus, load_template(place / "own.toml"), Seed(5), shots=4, items=6)


# Sums of at most 300 terms, ten after another in each of three layers, of logits below 30.
CLOSE = rounding(terms=300, size=30, steps=30)
SETTING = Comparison((1, 3), 2, 3, (Descent(5e-2), Descent(1e-2, 1, "adam", "value:deep")), (1, 2))


@pytest.fixture(scope="module")
def records(bench, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    return [record for _, _, record in compare(bench, SETTING, folder)], folder


def one(records, arm, shots, number=0):
    (found,) = [r for r in records if (r["arm"], r["shots"], r["set"]) == (arm, shots, number)]
    return found


def distribution(network, ids):
    """As lists, so that nothing of the library's way remains."""
    return network(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1).tolist()


def top(p, k=10):
    return set(sorted(range(len(p)), key=lambda v: (-p[v], v))[:k])


def test_every_number_is_that_of_plain_python(bench, records):
    """In context and after descent: prompts, training and measures written down again."""
    found, _ = records
    model, shots = bench.model, 3
    encode = model.encode
    shown = one(found, ICL, shots)["demonstrations"]
    rows = {row.id: row for row in bench.corpus.train}
    stem = "".join(
        f"Text: {rows[d['id']].text}\nKind: {({'fact': 'fact', 'view': 'opinion'})[d['label']]}\n\n" for d in shown
    )
    lessons = [rows[d["id"]] for d in shown]
    (weights,) = fine_tune(model, bench.template, lessons, rate=5e-2, epochs=[2])
    trained = zero_shot(model, bench.template, bench.texts, weights=weights).tolist()
    firsts = [encode(f"Kind: {word}")[len(encode("Kind:"))] for word in ("fact", "opinion")]
    sums = {name: 0.0 for name in ("accuracy", "label mass", "token overlap", "cosine", "reading", "start", "own mass")}
    for i, row in enumerate(bench.items):
        p = distribution(model.network, encode(f"{stem}Text: {row.text}\nKind:"))
        start = distribution(model.network, encode(f"Text: {row.text}\nKind:"))
        q = trained[i]
        common = top(p) & top(q)
        right = firsts[("fact", "view").index(row.label)]
        sums["accuracy"] += max(range(len(q)), key=q.__getitem__) == right
        sums["label mass"] += sum(q[v] for v in firsts)
        sums["own mass"] += sum(p[v] for v in firsts)
        sums["token overlap"] += len(common) / 10
        below = sum(p[v] ** 2 for v in common) * sum(q[v] ** 2 for v in common) * max(1, 10 - len(common))
        sums["cosine"] += sum(p[v] * q[v] for v in common) / math.sqrt(below) if common else 0.0
        sums["reading"] += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        sums["start"] += sum(b * math.log(b / a) for a, b in zip(start, q, strict=True))
    means = {name: value / len(bench.items) for name, value in sums.items()}
    last = {name: values[-1] for name, values in one(found, "gd all 0.05", shots)["measures"].items()}
    expected = {
        "accuracy": means["accuracy"],
        "label mass": means["label mass"],
        "token overlap": means["token overlap"],
        "overlap cosine (guarded)": means["cosine"],
        "KL from reading": means["reading"],
        "KL from the start": means["start"],
    }
    assert {name: last[name] for name in expected} == pytest.approx(expected, abs=CLOSE)
    assert one(found, ICL, shots)["measures"]["label mass"] == pytest.approx([means["own mass"]], abs=CLOSE)
    assert last["KL from the start"] > 0.01, "nothing was trained"


def test_every_arm_has_a_record_for_every_set_and_number(records):
    found, folder = records
    arms = {name for name in READINGS if name != "another template"} | {"gd all 0.05", "sgd1 value:deep 0.01"}
    arms = {arm.replace("sgd1 value", "adam value") for arm in arms}
    expected = {(a, n, s) for a in arms for n in (1, 3) for s in (0, 1)}
    expected |= {("order 3", 3, s) for s in (0, 1)}  # one demonstration has no third order
    assert {(r["arm"], r["shots"], r["set"]) for r in found} == expected
    assert len(list((folder / "records").glob("*.json"))) == len(found)
    assert all(len(r["items"]) == 6 and len(r["demonstrations"]) == r["shots"] for r in found)


def test_one_demonstration_has_one_order_and_reading_is_itself(records):
    found, _ = records
    for shots, arm in ((1, "another order"), (1, ICL), (3, ICL)):
        measures = one(found, arm, shots)["measures"]
        assert measures["token overlap"] == [1.0]
        assert {p: measures[f"overlap cosine ({p})"] for p in PENALTIES} == {p: [1.0] for p in PENALTIES}
        assert measures["KL from reading"] == [0.0]
    assert one(found, "another order", 3)["measures"]["KL from reading"][0] > 1e-6


def test_a_smaller_set_is_the_beginning_of_a_larger_one(records):
    found, _ = records
    few, many = (one(found, ICL, n, 1)["demonstrations"] for n in (1, 3))
    assert many[:1] == few


def test_resume_takes_what_is_there_and_makes_what_is_not(bench, records, monkeypatch):
    found, folder = records
    paths = sorted((folder / "records").glob("*gd-all*n3*set1*"))
    assert len(paths) == 1
    paths[0].write_text(paths[0].read_text()[:-20])  # cut off
    kept = {path: path.stat().st_mtime_ns for path in (folder / "records").glob("*.json")}
    again = [record for _, _, record in compare(bench, SETTING, folder, resume=True)]
    changed = [path for path, time in kept.items() if path.stat().st_mtime_ns != time]
    assert changed == paths
    key = lambda r: (r["arm"], r["shots"], r["set"])  # noqa: E731
    for before, now in zip(sorted(found, key=key), sorted(again, key=key), strict=True):
        assert now["measures"].keys() == before["measures"].keys()
        for name, values in now["measures"].items():
            assert values == pytest.approx(before["measures"][name], abs=CLOSE)


def test_another_setting_is_not_resumed(bench, records):
    _, folder = records
    before = {path.name for path in (folder / "records").glob("*.json")}
    setting = Comparison((1,), 1, 3, (Descent(4e-2),), (1, 2))
    done = [record for _, _, record in compare(bench, setting, folder, resume=True)]
    new = {path.name for path in (folder / "records").glob("*.json")} - before
    assert [name for name in new if "gd-all-0.04" in name] == list(new)
    assert len(done) == 8


# Order


def test_order_sensitivity_of_reading_and_descents(bench):
    setting = Orders(3, 1, 3, (Descent(5e-2), Descent(5e-2, 1)), (1, 2))
    found = {r["arm"]: r for _, _, r in order_sensitivity(bench, setting)}
    reading, full, single = found["in context"], found["gd all 0.05"], found["sgd1 all 0.05"]
    assert reading["measures"]["Sen"][0] > 1e-3
    assert max(full["measures"]["Sen"]) < 1e-5 < single["measures"]["Sen"][-1]
    assert max(full["replay floor"], single["replay floor"]) < 1e-5
    assert full["measures"]["KL from the start"][-1] > 0.01
    assert reading["measures"]["Theorem 1: difference"] == [0.0]
    assert full["measures"]["Theorem 1: difference"] == pytest.approx([1.0, 1.0], abs=1e-3)


def test_profile_difference_against_loops():
    p, q = ((Seed(0) / name).normal(3, 2, 5).softmax(-1) for name in "pq")
    relative, cosine = profile_difference(p, q)
    for item in range(2):
        above = below = total = 0.0
        for one_, other in ((0, 1), (0, 2), (1, 2)):
            a = [(p[one_, item, v] - p[other, item, v]).item() for v in range(5)]
            b = [(q[one_, item, v] - q[other, item, v]).item() for v in range(5)]
            above += sum(abs(x - y) for x, y in zip(a, b, strict=True))
            below += sum(map(abs, a))
            norms = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
            total += sum(x * y for x, y in zip(a, b, strict=True)) / norms
        assert (relative[item].item(), cosine[item].item()) == pytest.approx((above / below, total / 3))


def test_variants_of_sensitivity_and_cosine_against_loops():
    p = Seed(0).normal(4, 1, 6).softmax(-1)
    logs = [[math.log(p[o, 0, v]) for o in range(4)] for v in range(6)]
    spreads = [math.sqrt(sum((x - sum(r) / 4) ** 2 for x in r) / 4) for r in logs]
    found = sensitivity(p, space="logprob", spread=0, reduce="mean")
    assert found.item() == pytest.approx(sum(spreads) / 6)
    a, b = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.4, 0.1, 0.2, 0.3])
    square = 0.16 * 0.16  # of the first two tokens the first is common
    expected = {"guarded": 1.0, "plus one": 1 / math.sqrt(2), "plain": 1.0, "additive": 0.16 / math.sqrt(square + 1)}
    assert {p: overlap_cosine(a, b, 2, penalty=p).item() for p in PENALTIES} == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputError, match="penalty must be"):
        overlap_cosine(a, b, 2, penalty="none")


def test_calibration_error_against_a_loop():
    p = Seed(0).uniform(40, 1)
    p = torch.cat([p, 1 - p], dim=1)
    right = torch.nn.functional.one_hot(Seed(1).integers(2, 40), 2).bool()
    total = 0.0
    for low in range(10):
        rows = [(max(r), bool(t[r.index(max(r))])) for r, t in zip(p.tolist(), right.tolist(), strict=True)]
        own = [(c, hit) for c, hit in rows if low / 10 < c <= (low + 1) / 10]
        if own:
            total += abs(sum(hit for _, hit in own) - sum(c for c, _ in own)) / 40
    assert calibration_error(p, right).item() == pytest.approx(total)


# Weights


def split_by_hand(kind, weights):
    """Queries, keys and values of layer 1 by what each architecture documents."""
    if kind == "llama":
        return {n: weights[f"model.layers.1.self_attn.{n[0]}_proj.weight"] for n in ("query", "key", "value")}
    if kind == "gpt2":
        (whole,) = [w for name, w in weights.items() if name.endswith("h.1.attn.c_attn.weight")]
        return {n: whole[:, 32 * i : 32 * (i + 1)] for i, n in enumerate(("query", "key", "value"))}
    whole = weights["gpt_neox.layers.1.attention.query_key_value.weight"]
    heads = [whole[24 * h : 24 * (h + 1)] for h in range(4)]  # 8 rows each of query, key and value
    return {n: torch.cat([h[8 * i : 8 * (i + 1)] for h in heads]) for i, n in enumerate(("query", "key", "value"))}


@pytest.mark.parametrize("kind", KINDS)
def test_sparsity_is_counted_from_the_files(place, kind):
    matrices = split_by_hand(kind, load_file(place / kind / "model.safetensors"))
    found = {m.kind: m for m in sparsities(find_weights(place / kind)) if m.layer == 1}
    assert found.keys() == matrices.keys()
    for name, matrix in matrices.items():
        values = matrix.flatten().tolist()
        shares = [sum(abs(v) < t for v in values) / len(values) for t in THRESHOLDS]
        assert found[name].shares == pytest.approx(shares)
        assert found[name].size == len(values)


def test_gaussian_weights_follow_their_reference(place):
    """An untrained network is Gaussian by construction."""
    found = list(sparsities(find_weights(place / "gpt2")))
    assert max(abs(a - b) for m in found for a, b in zip(m.shares, m.gaussian, strict=True)) < 0.05


def test_weights_in_several_files_are_found(place, tmp_path):
    weights = load_file(place / "llama" / "model.safetensors")
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in shards.items():
        save_file({name: weights[name] for name in own}, tmp_path / file)
    index = {"weight_map": {name: file for file, own in shards.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text((place / "llama" / "config.json").read_text())
    assert list(sparsities(find_weights(tmp_path))) == list(sparsities(find_weights(place / "llama")))


def test_files_that_hold_no_weights_are_refused(place, tmp_path):
    with pytest.raises(InputError, match="no model is called"):
        find_weights(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no weights that can be read"):
        find_weights(tmp_path)
    save_file({"other": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no matrix of queries, keys and values was recognised among 1 weights"):
        list(sparsities(find_weights(tmp_path)))


def test_drift_is_the_mean_absolute_change(place, tmp_path):
    weights = load_file(place / "llama" / "model.safetensors")
    for i in range(3):
        moved = {name: w + 0.5 * i for name, w in weights.items()}
        (tmp_path / f"step-{i}").mkdir()
        save_file(moved, tmp_path / f"step-{i}" / "model.safetensors")
        (tmp_path / f"step-{i}" / "config.json").write_text((place / "llama" / "config.json").read_text())
    rows = list(drift_along([tmp_path / f"step-{i}" for i in range(3)], None, 1, 1))
    assert [row["change from the first"] for row in rows] == pytest.approx([0, 0.5, 1.0], abs=1e-5)
    assert [row["change from the one before"] for row in rows] == pytest.approx([0, 0.5, 0.5], abs=1e-5)
    with pytest.raises(InputError, match="at least two checkpoints"):
        list(drift_along([tmp_path / "step-0"], None, 1, 1))
    with pytest.raises(InputError, match="do not hold the same weights"):
        list(drift_along([tmp_path / "step-0", place / "gpt2"], None, 1, 1))

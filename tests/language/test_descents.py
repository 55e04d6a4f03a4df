"""Training several runs together, whole or in part, against torch.optim one at a time."""

import copy
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from insitu.errors import InputError
from insitu.language import Descent, fine_tune, fine_tune_together, load_corpus, load_language_model, load_template
from insitu.language.models.submodels import HeadCounts, attention_parts, select_submodel
from insitu.seed import Seed

sys.path.insert(0, str(Path(__file__).parent))
from tests.language.small_models import KINDS, TEMPLATE, write_corpus, write_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("descents")
    (folder / "own.toml").write_text(TEMPLATE)
    write_corpus(folder / "data")
    return folder


@pytest.fixture(scope="module", params=KINDS)
def model(request, place):
    # float64: a key's bias changes no attention, and Adam would make full steps of the rounding of its slope.
    return load_language_model(write_model(place / request.param, request.param), dtype="float64")


def by_hand(model, template, shown, how, epochs, masks):
    network = copy.deepcopy(model.network).requires_grad_(True)
    weights = {name: p for name, p in network.named_parameters() if name in masks}
    kind = torch.optim.SGD if how.optimiser == "gd" else torch.optim.Adam
    optimiser = kind(weights.values(), lr=how.rate)
    size = how.batch or len(shown)
    for _ in range(epochs):
        for start in range(0, len(shown), size):
            part = shown[start : start + size]
            optimiser.zero_grad()
            for d in part:
                asked = len(model.encode(template.prompt(d.text)))
                ids = torch.tensor([model.encode(f"{template.prompt(d.text)} {template.word(d.label)}")])
                logits = network(input_ids=ids).logits[0, asked - 1 : -1]
                (cross_entropy(logits, ids[0, asked:], reduction="sum") / len(part)).backward()
            for name, mask in masks.items():
                if mask is not None:
                    weights[name].grad.mul_(mask)
            optimiser.step()
    return {name: p.detach() for name, p in weights.items()}


WAYS = [Descent(1e-2), Descent(1e-2, 1), Descent(1e-3, 2, "adam"), Descent(1e-2, None, "gd", "value:mid")]


@pytest.mark.parametrize("how", WAYS, ids=lambda how: f"{how.name} {how.part}")
def test_runs_trained_together_are_those_of_torch(model, place, how):
    template, corpus = load_template(place / "own.toml"), load_corpus(place / "data")
    runs = [corpus.nested(Seed(i), 3) for i in range(3)]
    masks = select_submodel(model, how.part).masks
    *_, found = fine_tune_together(model, template, runs, how, [0, 2])
    for i, shown in enumerate(runs):
        expected = by_hand(model, template, shown, how, 2, masks)
        for name, weight in expected.items():
            torch.testing.assert_close(found[name][i], weight, rtol=0, atol=1e-9)
    start = dict(model.network.named_parameters())
    assert all((found[name][0] - start[name]).abs().max() > 1e-4 for name in masks if "value" in how.part)


@pytest.mark.parametrize("rank", [1, 3])
def test_adapters_are_trained_as_by_peft_and_torch(model, place, rank):
    from peft import LoraConfig, get_peft_model

    template, corpus = load_template(place / "own.toml"), load_corpus(place / "data")
    runs, how = [corpus.nested(Seed(i), 3) for i in range(2)], Descent(1e-1, 2, "gd", f"lora:{rank}")
    start, found = fine_tune_together(model, template, runs, how, [0, 2])
    untouched = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    assert all(torch.equal(start[name][1], untouched[name]) for name in start)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, shown in enumerate(runs):
            torch.manual_seed(0)
            adapted = get_peft_model(copy.deepcopy(model.network), LoraConfig(r=rank, lora_alpha=rank))
            factors = {name for name, p in adapted.named_parameters() if p.requires_grad}
            bare = replace(model, network=adapted)
            values = by_hand(bare, template, shown, how, 2, dict.fromkeys(factors))
            with torch.no_grad():
                for name, p in adapted.named_parameters():
                    p.copy_(values.get(name, p))
            expected = dict(adapted.merge_and_unload().named_parameters())
            for name, weight in found.items():
                torch.testing.assert_close(weight[i], expected[name].detach(), rtol=0, atol=1e-9)
                assert torch.linalg.matrix_rank(weight[i] - untouched[name], tol=1e-9) == rank
    assert not any(".lora_" in name for name, _ in model.network.named_modules())


def test_adapters_stand_at_the_modules_that_are_named(model):
    targets = {"llama": "o_proj,up_proj", "gpt2": "c_fc", "neox": "dense"}[model.name]
    names = set(select_submodel(model, f"lora:2:{targets}").masks)
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == set(targets.split(","))
    with pytest.raises(InputError, match=r"Name modules, as in lora:2:q_proj,v_proj; this model has \w+"):
        select_submodel(model, "lora:2:nowhere")


def test_without_peft_the_way_out_is_named(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install 'insitu\[lora\]'"):
        select_submodel(model, "lora:4")
    monkeypatch.undo()
    with pytest.raises(InputError, match="the rank must be at least 1; got 0"):
        select_submodel(model, "lora:0")


def test_a_value_matrix_is_what_multiplies_into_values(model):
    """Noise in the masked entries changes the values of that layer, and no query or key of it."""
    (name, mask), *_ = select_submodel(model, "value:1").masks.items()
    seen = {}

    def keep(module, inputs, output):
        seen["output"] = output

    weight = dict(model.network.named_parameters())[name].detach()
    mask = torch.ones_like(weight) if mask is None else mask
    noise = (Seed(0) / "noise").normal(*weight.shape).to(weight) * mask
    module = model.network.get_submodule(name.removesuffix(".weight").removesuffix(".bias"))
    handle = module.register_forward_hook(keep)
    ids = {"input_ids": torch.tensor([[1, 2, 3]])}
    model.network(**ids)
    before = seen["output"]
    torch.func.functional_call(model.network, {name: weight + noise}, (), ids)
    handle.remove()
    changed = (seen["output"] - before).abs().amax((0, 1)) > 1e-6
    heads = model.network.config.num_attention_heads
    width = model.network.config.hidden_size
    if "v_proj" in name:
        assert changed.all()
    elif "c_attn" in name:
        assert changed.tolist() == [False] * 2 * width + [True] * width
    else:  # per head: query, key, value
        assert changed.tolist() == ([False] * 2 * (width // heads) + [True] * (width // heads)) * heads


def test_layers_are_counted_from_0_and_mid_is_the_middle(model):
    shapes = {name: tuple(weight.shape) for name, weight in model.network.named_parameters()}
    assert [part.layer for part in attention_parts(shapes, HeadCounts.of(model.network.config))][-1] == 2
    named = {
        name: set(select_submodel(model, name).masks) for name in ("value:mid", "value:1", "value:deep", "value:2")
    }
    assert named["value:mid"] == named["value:1"]
    assert named["value:deep"] == named["value:2"] != named["value:mid"]
    for wrong, message in (("value:3", "has no layer '3'; its layers are 0 to 2"), ("keys", "no part of .* is called")):
        with pytest.raises(InputError, match=message):
            select_submodel(model, wrong)


def test_half_precision_is_refused(place):
    model = load_language_model(write_model(place / "half", "llama"), dtype="bfloat16")
    corpus = load_corpus(place / "data")
    with pytest.raises(InputError, match=r"in torch\.bfloat16, where small steps round to nothing"):
        fine_tune(model, load_template(place / "own.toml"), corpus.train[:2], rate=1e-3, epochs=[1])


def test_half_precision_would_not_move(place):
    """The reason for the refusal: at a small rate no weight changes, and no order could matter."""
    weight = torch.tensor([0.02], dtype=torch.bfloat16)
    assert torch.equal(weight - 1e-4 * torch.tensor([0.1], dtype=torch.bfloat16), weight)


def test_lists_of_different_length_are_refused(place):
    model = load_language_model(write_model(place / "again", "gpt2"))
    corpus = load_corpus(place / "data")
    with pytest.raises(InputError, match="must be equally long"):
        fine_tune_together(
            model, load_template(place / "own.toml"), [corpus.train[:2], corpus.train[:3]], Descent(0.1), [1]
        )


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(InputError, match="optimiser must be 'gd' or 'adam'; got 'sgd'"):
        Descent(0.1, optimiser="sgd")

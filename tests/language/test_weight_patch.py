"""A context as a rank-one change of weights, on every architecture whose blocks allow it."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from insitu.errors import InputError
from insitu.language import LanguageModel
from insitu.language.models import weight_patch
from insitu.language.models.weight_patch import last_states, patched, query_alone, weight_patches

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
OWN = {
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "gemma": {"num_key_value_heads": 2, "head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "gpt_neox": {"use_parallel_residual": False},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
}
CONTEXT = [3, 17, 8, 41, 22, 9, 30]


def built(kind, **more):
    sizes = {**SIZES, **OWN.get(kind, {}), **more, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **sizes, attn_implementation="eager")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(config).double().eval().requires_grad_(False)
        for weight in network.parameters():
            if weight.ndim == 1:  # norms and biases as training leaves them, not as they start
                weight.add_(0.1 * torch.randn(weight.shape, dtype=torch.float64))
    return LanguageModel(kind, network, None)


@pytest.fixture(scope="module", params=OWN)
def model(request):
    return built(request.param)


def logits(network, tokens, position):
    """The last logits by a plain forward pass."""
    places = torch.arange(position, position + len(tokens))[None]
    return network(input_ids=torch.tensor([tokens]), position_ids=places, use_cache=False).logits[0, -1]


def test_with_the_patch_every_block_and_the_answer_are_those_with_the_context(model):
    twin = patched(model, weight_patches(model, CONTEXT))
    with_context, answer = last_states(model, CONTEXT)
    alone, found = query_alone(twin, CONTEXT)
    for a, b in zip(alone, with_context, strict=True):
        torch.testing.assert_close(a.after, b.after, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(found, answer, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(
        logits(twin.network, CONTEXT[-1:], len(CONTEXT) - 1), logits(model.network, CONTEXT, 0), atol=1e-11, rtol=1e-11
    )


def test_without_the_patch_they_are_not_and_the_model_stays_as_it_was(model):
    before = {name: weight.clone() for name, weight in model.network.state_dict().items()}
    weight_patches(model, CONTEXT)
    assert all(weight.equal(before[name]) for name, weight in model.network.state_dict().items())
    assert (query_alone(model, CONTEXT)[1] - last_states(model, CONTEXT)[1]).abs().max() > 0.1


def test_each_change_has_rank_one(model):
    for patch in weight_patches(model, CONTEXT):
        for change in patch.weights.values():
            size = torch.linalg.svdvals(change)
            assert size[1] < 1e-12 * size[0]


def test_the_patch_of_one_query_does_not_serve_another(model):
    twin = patched(model, weight_patches(model, CONTEXT))
    other = [*CONTEXT[:-1], 12]
    right = last_states(model, other)[1]
    assert (query_alone(twin, other)[1] - right).abs().max() > 0.1


def test_a_patch_with_the_context_of_another_block_is_noticed(model, monkeypatch):
    wrong = weight_patch.patch_of
    monkeypatch.setattr(
        weight_patch,
        "patch_of",
        lambda block, alone, target: wrong(block, alone, replace(target, scaled=2 * target.scaled)),
    )
    with pytest.raises(InputError, match=r"block 0 of .* does not allow it"):
        weight_patches(model, CONTEXT)


def test_a_parallel_block_is_patched_in_its_bias_alone_at_the_bottom():
    model = built("gpt_neox", use_parallel_residual=True)
    first, *_ = weight_patches(model, CONTEXT)
    assert all(not change.any() for change in first.weights.values())
    assert first.bias.any()


def test_a_norm_behind_the_perceptron_does_not_allow_a_patch():
    with pytest.raises(InputError, match=r"block 0 of gemma2 does not allow it: .*a norm follows it"):
        weight_patches(built("gemma2", num_key_value_heads=2, head_dim=8), CONTEXT)


def test_a_context_that_changes_nothing_is_refused():
    model = built("llama", num_key_value_heads=2)
    for block in weight_patch.blocks_of(model):
        block.module.self_attn.o_proj.weight.zero_()
    with pytest.raises(InputError, match="the context changes nothing in block 0 of llama"):
        weight_patches(model, CONTEXT)


def test_a_query_without_a_context_is_refused(model):
    with pytest.raises(InputError, match="at least two tokens; got 1"):
        weight_patches(model, CONTEXT[:1])


def test_an_unknown_kind_of_block_is_refused():
    with pytest.raises(InputError, match=r"a block of mixtral has no perceptron of a known kind"):
        weight_patches(built("mixtral", num_key_value_heads=2, num_local_experts=2), CONTEXT)

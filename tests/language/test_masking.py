"""The prefix mask on language models of three kinds: against a second road without masks, and by what moves."""

import pytest
import torch
from tests.rounding import rounding

from insitu import InputError, Seed
from insitu.language import TEMPLATES, in_context, load_corpus, load_language_model, prefix_attention, prefix_lengths

SIZES = {"vocab_size": 50, "max_position_embeddings": 32, "hidden_size": 16, "num_hidden_layers": 2}
IDS = (Seed(0) / "ids").integers(50, 2, 12)
PREFIX = torch.tensor([5, 8])
# Sums of at most 64 terms, ten after another in each of two layers, of logits below 20.
CLOSE = {
    "sdpa": rounding(terms=64, size=20, steps=20),
    # Whatever the model's precision, transformers takes the softmax over the 12 keys in single precision.
    "eager": rounding(terms=12, size=20, steps=2, dtype=torch.float32),
}


def network(kind: str, kernel: str):
    """A small random model of a kind in double precision, with weights large enough for attention to matter."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        GPTNeoXConfig,
        GPTNeoXForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
    )

    heads = {"num_attention_heads": 2, "intermediate_size": 32}
    kinds = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **heads)),
        "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, **heads)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2)),
    }
    with torch.random.fork_rng():
        built = kinds[kind]().double().eval()
    with torch.no_grad():
        for name, weight in built.named_parameters():
            if weight.ndim == 2:
                weight.copy_(0.4 * (Seed(1) / name).normal(*weight.shape))
    built.set_attn_implementation(kernel)
    return built


def without_masks(model, ids: torch.Tensor, length: int) -> torch.Tensor:
    """The last logits of one prompt: the prefix read in both directions into a cache, then token after token."""
    model.config.is_causal = False
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False
    cache = model(input_ids=ids[None, :length], use_cache=True).past_key_values
    model.config.is_causal = True
    for place in range(length, len(ids)):
        output = model(input_ids=ids[None, place : place + 1], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
    return output.logits[0, -1]


def last_logits(model, prefix=None):
    """What is said at the end of both rows, under a prefix mask if one is given."""
    if prefix is None:
        return model(input_ids=IDS).logits[:, -1]
    with prefix_attention(model, prefix):
        return model(input_ids=IDS).logits[:, -1]


every_kind = pytest.mark.parametrize("kind", ["llama", "gpt2", "neox"])
every_kernel = pytest.mark.parametrize("kernel", ["sdpa", "eager"])


@every_kind
@every_kernel
@torch.no_grad()
def test_answers_are_those_of_a_bidirectional_prefix_read_into_a_cache(kind, kernel):
    model = network(kind, kernel)
    masked, causal = last_logits(model, PREFIX), last_logits(model)
    assert (masked - causal).abs().max() > 0.01
    zero = last_logits(model, torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(zero, causal, atol=CLOSE[kernel], rtol=0)
    for row in range(2):
        expected = without_masks(network(kind, "sdpa"), IDS[row], int(PREFIX[row]))
        torch.testing.assert_close(masked[row], expected, atol=CLOSE[kernel], rtol=0)


@every_kind
@every_kernel
@torch.no_grad()
def test_a_later_demonstration_moves_earlier_states_only_inside_the_prefix(kind, kernel):
    model = network(kind, kernel)
    changed = IDS.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 50

    def states(ids, lengths):
        with prefix_attention(model, lengths):
            return model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[-1]

    for lengths, first in ((torch.tensor([0, 0]), 4), (torch.tensor([6, 6]), 0), (torch.tensor([3, 3]), 4)):
        moved = (states(changed, lengths) - states(IDS, lengths)).abs().amax((0, 2)) > 1e-6
        assert moved.tolist() == [place >= first for place in range(12)]


@torch.no_grad()
def test_outside_of_the_prefix_mask_the_network_is_what_it_was():
    model = network("llama", "sdpa")
    before = last_logits(model)
    with pytest.raises(ZeroDivisionError), prefix_attention(model, PREFIX):
        raise ZeroDivisionError
    assert torch.equal(last_logits(model), before)


def test_a_kernel_that_takes_no_such_mask_is_named():
    model = network("llama", "sdpa")
    model.config._attn_implementation = "flex_attention"
    with (
        pytest.raises(InputError, match=r"attends by 'flex_attention'.*load it with one of sdpa, eager"),
        prefix_attention(model, PREFIX),
    ):
        pass


def test_the_bundled_model_reads_demonstrations_in_both_directions():
    model, corpus, template = (
        load_language_model("stories260K", dtype="float64"),
        load_corpus("subj"),
        TEMPLATES["subj"],
    )
    corpus = corpus.where(lambda text: len(text) < 60)
    shown, asked = corpus.demonstrate(Seed(0), 2), [row.text for row in corpus.questions(Seed(1), 2)]
    causal, prefix = (in_context(model, template, shown, asked, attention=kind) for kind in ("causal", "prefix"))
    assert (causal - prefix).abs().max() > 1e-4
    assert (prefix.sum(1) - 1).abs().max() < 1e-12
    alone = [in_context(model, template, (), asked, attention=kind) for kind in ("causal", "prefix")]
    # The bundled model sums over 512 tokens, in five layers.
    torch.testing.assert_close(*alone, atol=rounding(terms=512, steps=50), rtol=0)
    stem = template.stem(shown)
    lengths = prefix_lengths(model, stem, [template.prompt(text, shown) for text in asked])
    assert all(len(model.encode(stem)) - 2 <= length <= len(model.encode(stem)) for length in lengths.tolist())
    with pytest.raises(InputError, match="does not begin with the demonstrations but with"):
        prefix_lengths(model, stem, ["Something else."])

"""The decoder against transformers' GPT-2 with the same weights, and answers at every place against single ones."""

import copy

import pytest
import torch
from tests.examples import NETWORKS, REGRESSION, close

from insitu import InputError, Seed
from insitu.models import Decoder, DecoderArchitecture, initialise_decoder

DECODER = next(network for network in NETWORKS if isinstance(network, Decoder))


def reference(decoder: Decoder, prompt) -> torch.Tensor:
    """The same weights in another library's network."""
    from transformers import GPT2Config, GPT2Model

    shape = decoder.architecture
    sizes = {"n_positions": 2 * shape.points, "n_embd": shape.width, "n_layer": shape.layers, "n_head": shape.heads}
    configuration = GPT2Config(vocab_size=1, activation_function="gelu", **sizes)
    with torch.random.fork_rng():  # its start is drawn globally, and then replaced
        model = GPT2Model(configuration).double().eval()
    names = {
        "before_attention": "ln_1",
        "attention": "attn.c_attn",
        "projection": "attn.c_proj",
        "before_network": "ln_2",
        "expansion": "mlp.c_fc",
        "contraction": "mlp.c_proj",
    }
    state = {"wpe.weight": decoder.positions, "ln_f.weight": decoder.norm.weight, "ln_f.bias": decoder.norm.bias}
    state["wte.weight"] = model.wte.weight
    for index, block in enumerate(decoder.blocks):
        for ours, theirs in names.items():
            part = getattr(block, ours)
            weight = part.weight if ours.startswith("before") else part.weight.T  # theirs multiply from the right
            state[f"h.{index}.{theirs}.weight"], state[f"h.{index}.{theirs}.bias"] = weight, part.bias
    model.load_state_dict(state)
    answers = []
    for q in range(prompt.queries.shape[1]):
        rows = []
        for x, y in zip(prompt.xs.unbind(1), prompt.ys.unbind(1), strict=True):
            rows += [x, torch.cat([y, y.new_zeros(len(y), shape.dim - shape.out)], dim=1)]
        rows.append(prompt.queries[:, q])
        tokens = torch.stack(rows, dim=1) @ decoder.reading.weight.T + decoder.reading.bias
        last = model(inputs_embeds=tokens).last_hidden_state[:, -1]
        answers.append(last @ decoder.readout.weight.T + decoder.readout.bias)
    return torch.stack(answers, dim=1)


def test_answers_are_those_of_gpt2_with_the_same_weights():
    close(DECODER.predict(REGRESSION), reference(DECODER, REGRESSION), 1e-10)


@pytest.mark.parametrize("fault", ["a block swapped", "a position off"])
def test_another_network_is_not_taken_for_it(fault):
    wrong = copy.deepcopy(DECODER)
    with torch.no_grad():
        if fault == "a position off":
            wrong.positions.copy_(wrong.positions.roll(1, 0))
        else:
            wrong.blocks = torch.nn.ModuleList(reversed(wrong.blocks))
    with pytest.raises(AssertionError):
        close(wrong.predict(REGRESSION), reference(DECODER, REGRESSION), 1e-10)


def test_one_pass_answers_at_every_place_from_what_came_before():
    sequence = REGRESSION.xs, REGRESSION.ys
    paths = DECODER(*sequence)
    for place in range(1, REGRESSION.points):
        alone = type(REGRESSION)(
            REGRESSION.xs[:, :place], REGRESSION.ys[:, :place], REGRESSION.xs[:, place : place + 1]
        )
        close(paths[:, place], DECODER.predict(alone)[:, 0])
    later = REGRESSION.ys.clone()
    later[:, 4] += 1.0
    moved = (DECODER(REGRESSION.xs, later) - paths).abs().amax((0, 2)) > 0
    assert moved.tolist() == [False] * 5 + [True] * 2


def test_sizes_of_the_paper():
    garg = Decoder(DecoderArchitecture(dim=20, points=101, width=256, layers=12, heads=8))
    per_block = 12 * 256**2 + 13 * 256
    others = 20 * 256 + 256 + 202 * 256 + 2 * 256 + 257
    assert sum(p.numel() for p in garg.parameters()) == 12 * per_block + others


def test_the_start_has_the_stated_spread():
    decoder = Decoder(DecoderArchitecture(dim=8, points=50, width=64, layers=2))
    initialise_decoder(decoder, Seed(0), positions=0.5)
    matrices = {
        decoder.reading.weight: 1 / 8,
        decoder.positions: 0.25,
        decoder.blocks[0].attention.weight: 1 / 64,
        decoder.blocks[1].projection.weight: 1 / 256,
        decoder.blocks[1].contraction.weight: 1 / 1024,
        decoder.readout.weight: 1 / 64,
    }
    for weights, variance in matrices.items():
        assert abs(weights.var().item() / variance - 1) < 5 * (2 / weights.numel()) ** 0.5
    assert not decoder.blocks[0].attention.bias.any()
    assert decoder.norm.weight.eq(1).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"heads": 3}, "3 heads do not divide a width of 8"),
        ({"out": 4}, "a label of 4 numbers does not fit a token of 3"),
        ({"layers": 0}, "layers must be a whole number of at least 1"),
    ],
)
def test_shapes_that_cannot_be_are_refused(changes, match):
    with pytest.raises(InputError, match=match):
        DecoderArchitecture(**({"dim": 3, "points": 9, "width": 8, "heads": 2} | changes))


def test_a_sequence_longer_than_its_positions_is_refused():
    short = Decoder(DecoderArchitecture(3, points=7, width=8, heads=2, out=2)).double()
    with pytest.raises(InputError, match="positions for 6 examples; got 7"):
        short.predict(REGRESSION)
    with pytest.raises(InputError, match="dim=3 and out=2; got a prompt with dim=3 and out=1"):
        short.predict(type(REGRESSION)(REGRESSION.xs, REGRESSION.ys[..., :1], REGRESSION.queries))

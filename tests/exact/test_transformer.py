"""The transformer against torch's own encoder layer, and its variants against loops over tokens."""

import math

import pytest
import torch
from tests.examples import NETWORKS, REGRESSION, close, name
from torch import nn

from insitu import InputError, Seed
from insitu.models import Prefix, Transformer, TransformerArchitecture, initialise_transformer
from insitu.models.block import Block

TRANSFORMERS = [network for network in NETWORKS if isinstance(network, Transformer)]


def seen_by_torch(block: Block, stream: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """The same weights in torch's encoder layer."""
    width = stream.shape[-1]
    with torch.random.fork_rng():
        layer = nn.TransformerEncoderLayer(
            width, block.heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
    layer = layer.double().eval()
    pairs = {
        layer.self_attn.in_proj_weight: block.attention.weight,
        layer.self_attn.in_proj_bias: block.attention.bias,
        layer.self_attn.out_proj.weight: block.projection.weight,
        layer.self_attn.out_proj.bias: block.projection.bias,
        layer.linear1.weight: block.expansion.weight,
        layer.linear1.bias: block.expansion.bias,
        layer.linear2.weight: block.contraction.weight,
        layer.linear2.bias: block.contraction.bias,
        layer.norm1.weight: block.before_attention.weight,
        layer.norm1.bias: block.before_attention.bias,
        layer.norm2.weight: block.before_network.weight,
        layer.norm2.bias: block.before_network.bias,
    }
    with torch.no_grad():
        for theirs, ours in pairs.items():
            theirs.copy_(ours)
    return layer(stream, src_mask=~visible)


def seen_by_a_loop(block: Block, stream: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Token by token, head by head, with the squared distances written out."""
    read = block.before_attention(stream)
    query, key, value = (read @ block.attention.weight.T + block.attention.bias).chunk(3, dim=-1)
    size = query.shape[-1] // block.heads
    found = torch.zeros_like(query)
    for b in range(len(stream)):
        for row in range(stream.shape[1]):
            for head in range(block.heads):
                part = slice(head * size, (head + 1) * size)
                weights = []
                for column in range(stream.shape[1]):
                    q, k = query[b, row, part], key[b, column, part]
                    score = q @ k / math.sqrt(size)
                    if block.scores == "distance":
                        score = -(k - q / math.sqrt(size)).square().sum() / 2
                    weights.append(score.exp() if visible[row, column] else torch.zeros(()))
                total = sum(weights)
                found[b, row, part] = sum(w / total * value[b, c, part] for c, w in enumerate(weights))
    base = read if block.norm == "stream" else stream
    stream = base + found @ block.projection.weight.T + block.projection.bias
    read = block.before_network(stream)
    inner = read @ block.expansion.weight.T + block.expansion.bias
    inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
    return (read if block.norm == "stream" else stream) + inner @ block.contraction.weight.T + block.contraction.bias


def by_hand(transformer: Transformer, layer) -> torch.Tensor:
    shape = transformer.architecture
    n, m = REGRESSION.points, REGRESSION.queries.shape[1]
    rows = [torch.cat([REGRESSION.xs[:, i], REGRESSION.ys[:, i]], 1) for i in range(n)]
    rows += [torch.cat([REGRESSION.queries[:, i], 0 * REGRESSION.ys[:, 0]], 1) for i in range(m)]
    stream = torch.stack(rows, 1) @ transformer.reading.weight.T + transformer.reading.bias
    if shape.positions:
        stream = stream + torch.stack([*transformer.positions[:n], *[transformer.positions[-1]] * m])
    visible = torch.zeros(n + m, n + m, dtype=torch.bool)
    for row in range(n + m):
        whole = isinstance(shape.mask, Prefix) or row >= n
        visible[row, : n if whole else row + 1] = True
    for index in range(shape.layers):
        stream = layer(transformer.blocks[0 if shape.shared else index], stream, visible)
    return transformer.norm(stream[:, n:]) @ transformer.readout.weight.T + transformer.readout.bias


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=name)
def test_answers_are_those_of_a_loop_over_tokens(transformer):
    close(transformer.predict(REGRESSION), by_hand(transformer, seen_by_a_loop), 1e-10)


def test_the_plain_block_is_torchs_encoder_layer():
    plain = TRANSFORMERS[0]
    close(plain.predict(REGRESSION), by_hand(plain, seen_by_torch), 1e-10)
    with pytest.raises(AssertionError):
        close(TRANSFORMERS[1].predict(REGRESSION), by_hand(plain, seen_by_torch), 1e-10)


def test_the_start_is_of_the_seed_alone():
    architecture = TransformerArchitecture(3, positions=4)
    one, again, other = (Transformer(architecture) for _ in range(3))
    for network, seed in ((one, 0), (again, 0), (other, 1)):
        initialise_transformer(network, Seed(seed))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.blocks[0].attention.weight, other.blocks[0].attention.weight)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"heads": 3}, "3 heads do not divide a width of 32; give a head_width"),
        ({"scores": "cosine"}, "scores must be"),
        ({"norm": "none"}, "norm must be"),
        ({"positions": -1}, "positions must be a whole number of at least 0"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_shapes_that_cannot_be_are_refused(changes, match):
    with pytest.raises(InputError, match=match):
        TransformerArchitecture(3, **changes)


def test_a_context_longer_than_its_positions_is_refused():
    short = Transformer(TransformerArchitecture(3, 2, positions=5)).double()
    with pytest.raises(InputError, match="positions for 5 examples; got 7"):
        short.predict(REGRESSION)

"""Operations counted from sizes against those that PyTorch counts while it computes."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from insitu.errors import InputError
from insitu.models import (
    Architecture,
    AttentionNetwork,
    AugmentedArchitecture,
    AugmentedStack,
    Causal,
    Decoder,
    DecoderArchitecture,
    HeadsArchitecture,
    PositionedHeads,
    Prefix,
    SelfVisible,
    Transformer,
    TransformerArchitecture,
)
from insitu.models.block import hidden
from insitu.training.operations import SHORTEST_STEP, SPEED, forward_numbers, forward_operations, training_hours

BATCH, CONTEXT, QUERIES = 3, 17, 2


def answers(architecture):
    """What the network reads out of every token of some prompts."""
    dim, out, tokens = architecture.dim, architecture.out, CONTEXT + QUERIES
    if isinstance(architecture, TransformerArchitecture):
        unseen = hidden(architecture.mask.visible(CONTEXT, QUERIES), torch.zeros(1))
        return Transformer(architecture)(torch.ones(BATCH, tokens, dim + out), unseen, CONTEXT)
    if isinstance(architecture, DecoderArchitecture):
        return Decoder(architecture)(torch.ones(BATCH, tokens, dim), torch.ones(BATCH, tokens, out))
    if isinstance(architecture, Architecture):
        network = AttentionNetwork(architecture)
        return network(torch.ones(BATCH, tokens, architecture.width), CONTEXT)
    kind = AugmentedStack if isinstance(architecture, AugmentedArchitecture) else PositionedHeads
    return kind(architecture)(torch.ones(BATCH, tokens, dim))


ARCHITECTURES = [
    TransformerArchitecture(dim=3, layers=2, width=8, heads=2),
    TransformerArchitecture(dim=3, out=2, layers=3, width=8, heads=2, head_width=3, mask=Causal(), shared=True),
    DecoderArchitecture(dim=4, points=20, width=8, layers=2, heads=2),
    Architecture(dim=3, layers=2, mask=Prefix()),
    Architecture(dim=3, layers=2, heads=2, mask=Causal(), merged=False, head_width=2),
    Architecture(dim=3, layers=2, heads=2, mask=Prefix(5), merged=False),
    Architecture(dim=3, layers=1, mask=SelfVisible(Prefix())),
    Architecture(dim=3, layers=1, heads=2, mask=Causal(), attention="softmax"),
    AugmentedArchitecture(dim=3, layers=2),
    AugmentedArchitecture(dim=3, layers=1, attention="softmax"),
    HeadsArchitecture(dim=3, length=20, heads=4),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda shape: type(shape).__name__)
def test_operations_are_those_of_a_forward_pass(architecture):
    count = forward_operations(architecture, batch=BATCH, context=CONTEXT, queries=QUERIES)
    # PyTorch counts the products of attention where they are spelled out; those of its fused kernel not everywhere.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = answers(architecture).sum()
        assert counter.get_total_flops() == count
        # The first layer has no gradient for its inputs to compute, which is much in networks as small as these.
        loss.backward()
    assert 2 * count < counter.get_total_flops() <= 3 * count
    for name in ("batch", "context", "queries"):
        more = {"batch": BATCH, "context": CONTEXT, "queries": QUERIES}
        more[name] += 1
        assert forward_operations(architecture, **more) > count


def test_queries_alone_take_the_operations_that_are_counted_for_them():
    shape = TransformerArchitecture(dim=3, layers=2, width=8, heads=2)
    unseen = hidden(shape.mask.visible(CONTEXT, QUERIES), torch.zeros(1))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        Transformer(shape)(torch.ones(BATCH, CONTEXT + QUERIES, 4), unseen, CONTEXT, first=CONTEXT)
    sizes = {"batch": BATCH, "context": CONTEXT, "queries": QUERIES}
    assert counter.get_total_flops() == forward_operations(shape, **sizes, alone=True)
    assert counter.get_total_flops() < forward_operations(shape, **sizes)


class Written(TorchDispatchMode):
    """Counts the numbers of every result that is not a view of an earlier one."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and all(r.alias_info is None for r in function._schema.returns):
            self.count += found.numel()
        return found


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("kind", [TransformerArchitecture, DecoderArchitecture])
def test_numbers_are_about_those_that_are_written(kind, heads):
    """By what PyTorch is asked to compute; what stands outside the layers, and biases, are left out."""
    more = {"points": 20} if kind is DecoderArchitecture else {}
    architecture = kind(dim=3, layers=3, width=32, heads=heads, **more)
    with torch.no_grad(), Written() as written:
        answers(architecture)
    counted = forward_numbers(architecture, batch=BATCH, context=CONTEXT, queries=QUERIES)
    assert 2 / 3 < written.count / counted < 3 / 2
    # Without scores it would be wrong for several heads.
    tokens = (CONTEXT + QUERIES) * (2 if more else 1)
    scores = 3 * 3 * BATCH * heads * tokens**2
    assert heads == 1 or written.count / (counted - scores) > 3 / 2


def test_a_long_causal_context_costs_less_than_is_counted():
    architecture = Architecture(dim=3, layers=1, mask=Causal())
    network = AttentionNetwork(architecture)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.ones(1, 401, architecture.width), 400)
    assert counter.get_total_flops() < forward_operations(architecture, batch=1, context=400)


def test_hours_are_operations_over_speed_and_never_less_than_launching():
    assert training_hours(int(SPEED), 1200) == 1.0
    assert training_hours(1, 3600) == SHORTEST_STEP


def test_an_unknown_network_is_named():
    with pytest.raises(InputError, match=r"the operations of int are not known; they are for Architecture, .*Heads"):
        forward_operations(3, batch=1, context=1)

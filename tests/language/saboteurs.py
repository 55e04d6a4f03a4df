"""Wrong parts under which the claims about language models must not hold: ``{claim: {keyword: wrong part}}``."""

import functools

import torch

from insitu.language import fine_tune


def unnormalised_cosine(p, q, k=10):
    """The overlap cosine without its denominator."""
    return (p * q).topk(k).values.sum(-1)


def same_order(seed, shots, count):
    """Every order is the one in which the demonstrations came."""
    return torch.arange(shots).expand(count, shots)


SABOTEURS: dict[str, dict[str, object]] = {
    # Steps on single examples in the order given, which depend on the order.
    "shen2024.full-batch-descent-is-order-stable": {"descent": functools.partial(fine_tune, batch=1)},
    "shen2024.one-demonstration-is-its-own-order": {"cosine": unnormalised_cosine},
}

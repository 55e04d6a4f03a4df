"""Wrong parts under which the claims about language models must not hold: ``{claim: {keyword: wrong part}}``."""

import functools

from insitu.language import fine_tune


def unnormalised_cosine(p, q, k=10):
    """The overlap cosine without its denominator."""
    return (p * q).topk(k).values.sum(-1)


SABOTEURS: dict[str, dict[str, object]] = {
    # Steps on single examples in the order given, which depend on the order.
    "shen2024.full-batch-descent-is-order-stable": {"descent": functools.partial(fine_tune, batch=1)},
    "shen2024.one-demonstration-is-its-own-order": {"cosine": unnormalised_cosine},
}

# Changes to the quick settings that make them small enough for a test.
SMALL = {
    "shen2024.full-batch-descent-is-order-stable": {"sets": 4, "orders": 3, "items": 2, "epochs": (1, 2)},
    "shen2024.one-demonstration-is-its-own-order": {"sets": 4, "items": 2},
}

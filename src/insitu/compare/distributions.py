r"""Distances between next-token distributions.

A distribution :math:`p` gives a probability to every token :math:`v` of the vocabulary; :math:`T_K(p)` are its
:math:`K` most probable tokens, where equal probabilities rank by token id, so that equal distributions always have
equal top tokens.

References:
    Shen, Mishra, Khashabi, "Do pretrained Transformers Learn In-Context by Gradient Descent?" (ICML 2024) names
    the sensitivity, the token overlap and the overlap cosine. The exact placement of the penalty in the last is
    our reading; see :func:`overlap_cosine`.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from insitu.errors import InputError

__all__ = ["kl_divergence", "overlap_cosine", "sensitivity", "token_overlap"]


def sensitivity(p: Float[Tensor, "order item token"]) -> Float[Tensor, " item"]:
    r"""How much the answer to each item depends on the order of the demonstrations.

    .. math:: \mathrm{Sen}(x) = \sum_v \mathrm{std}_\sigma\, p_\sigma(v \mid x)

    with the standard deviation of a sample (one less in the denominator) over the orders :math:`\sigma`.

    Raises:
        InputError: If there are fewer than two orders.

    Example:
        >>> round(sensitivity(torch.tensor([[[0.5, 0.5]], [[0.7, 0.3]]])).item(), 6)  # 2 * 0.2 / sqrt(2)
        0.282843
    """
    if len(p) < 2:
        raise InputError(f"sensitivity: a spread over orders needs at least two of them; got {len(p)}.")
    return p.double().std(0).sum(-1)


def token_overlap(
    p: Float[Tensor, "*prompt token"], q: Float[Tensor, "*prompt token"], k: int = 10
) -> Float[Tensor, "*prompt"]:
    r"""The share of common tokens among the ``k`` most probable ones.

    .. math:: \mathrm{TO}(p, q) = \frac{|T_K(p) \cap T_K(q)|}{K}

    Raises:
        InputError: If ``k`` is not between 1 and the size of the vocabulary.

    Example:
        >>> p, q = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.4, 0.1, 0.2, 0.3])
        >>> token_overlap(p, q, k=2).item()
        0.5
    """
    return (top_tokens(p, k) & top_tokens(q, k)).double().sum(-1) / k


def overlap_cosine(
    p: Float[Tensor, "*prompt token"], q: Float[Tensor, "*prompt token"], k: int = 10
) -> Float[Tensor, "*prompt"]:
    r"""The cosine of two distributions over their common top tokens, less the more tokens are not common.

    .. math:: \mathrm{OCS}(p, q) = \frac{\sum_{v \in O} p(v)\, q(v)}
        {\sqrt{\sum_{v \in O} p(v)^2\, \sum_{v \in O} q(v)^2\, \max(1, K - |O|)}}, \qquad O = T_K(p) \cap T_K(q)

    and 0 where nothing is common. With the bare factor :math:`K - |O|` equal distributions would divide by zero,
    though the paper's reference line is 1 there; the factor is therefore kept at 1 or more. Equal inputs give
    exactly 1.

    Raises:
        InputError: If ``k`` is not between 1 and the size of the vocabulary.

    Example:
        >>> p, q = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.4, 0.1, 0.2, 0.3])
        >>> [overlap_cosine(p, other, k=2).item() for other in (p, q, p.flip(0))]
        [1.0, 1.0, 0.0]
    """
    common = top_tokens(p, k) & top_tokens(q, k)
    a, b = (torch.where(common, t.double(), 0.0) for t in (p, q))
    penalty = (k - common.sum(-1)).clamp(min=1)
    # For equal inputs this is s / sqrt(s * s), and the rounded root of a rounded square is exact.
    length = (a.square().sum(-1) * b.square().sum(-1) * penalty).sqrt()
    return torch.where(common.any(-1), (a * b).sum(-1) / length, 0.0)


def kl_divergence(p: Float[Tensor, "*prompt token"], q: Float[Tensor, "*prompt token"]) -> Float[Tensor, "*prompt"]:
    r"""The Kullback-Leibler divergence in nats.

    .. math:: \mathrm{KL}(p \,\|\, q) = \sum_v p(v) \log \frac{p(v)}{q(v)}

    Infinite where :math:`p` gives weight to a token to which :math:`q` gives none.

    Example:
        >>> round(kl_divergence(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5])).item(), 6)  # log 2
        0.693147
    """
    p, q = p.double(), q.double()
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


def top_tokens(p: Float[Tensor, "*prompt token"], k: int) -> Bool[Tensor, "*prompt token"]:
    """Which tokens are among the ``k`` most probable; equal probabilities rank by token id."""
    if not 1 <= k <= p.shape[-1]:
        raise InputError(f"top tokens: k must lie between 1 and the {p.shape[-1]} tokens there are; got {k}.")
    ranked = p.argsort(dim=-1, descending=True, stable=True)[..., :k]
    return torch.zeros_like(p, dtype=torch.bool).scatter(-1, ranked, True)

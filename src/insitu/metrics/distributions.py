r"""Distances between next-token distributions.

A distribution :math:`p` gives a probability to every token :math:`v` of the vocabulary; :math:`T_K(p)` are its
:math:`K` most probable tokens, where equal probabilities rank by token id, so that equal distributions always have
equal top tokens.

References:
    Shen, Mishra, Khashabi, "Do pretrained Transformers Learn In-Context by Gradient Descent?" (ICML 2024) names
    the sensitivity, the token overlap and the overlap cosine. The exact placement of the penalty in the last is
    our reading; see :func:`overlap_cosine`.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from insitu.errors import InputError, require_one_of

__all__ = [
    "PENALTIES",
    "brier_score",
    "calibration_error",
    "kl_divergence",
    "overlap_cosine",
    "sensitivity",
    "token_overlap",
]

Space = Literal["prob", "logprob"]
Reduce = Literal["sum", "mean"]
Penalty = Literal["guarded", "plus one", "plain", "additive"]
PENALTIES: tuple[str, ...] = get_args(Penalty)


def sensitivity(
    p: Float[Tensor, "order item token"], *, space: str = "prob", spread: int = 1, reduce: str = "sum"
) -> Float[Tensor, " item"]:
    r"""How much the answer to each item depends on the order of the demonstrations.

    .. math:: \mathrm{Sen}(x) = \sum_v \mathrm{std}_\sigma\, p_\sigma(v \mid x)

    with the standard deviation of a sample (one less in the denominator) over the orders :math:`\sigma`. The paper
    leaves open which of the variants it means; only the sum of probabilities fits the numbers that it shows.

    Args:
        p: The distributions; pass some tokens only, such as the label words, to measure them alone.
        space: Of what the spread is taken, *prob* or *logprob*.
        spread: The number subtracted from the number of orders in the denominator, 1 or 0.
        reduce: *sum* or *mean* over the tokens.

    Raises:
        InputError: If there are fewer than two orders or a variant is unknown.

    Example:
        >>> round(sensitivity(torch.tensor([[[0.5, 0.5]], [[0.7, 0.3]]])).item(), 6)  # 2 * 0.2 / sqrt(2)
        0.282843
    """
    if len(p) < 2:
        raise InputError(f"sensitivity: a spread over orders needs at least two of them; got {len(p)}.")
    require_one_of("sensitivity", "space", space, get_args(Space))
    require_one_of("sensitivity", "reduce", reduce, get_args(Reduce))
    values = p.double() if space == "prob" else p.double().log()
    spreads = values.std(0, correction=spread)
    return spreads.sum(-1) if reduce == "sum" else spreads.mean(-1)


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
    p: Float[Tensor, "*prompt token"], q: Float[Tensor, "*prompt token"], k: int = 10, *, penalty: str = "guarded"
) -> Float[Tensor, "*prompt"]:
    r"""The cosine of two distributions over their common top tokens, less the more tokens are not common.

    .. math:: \mathrm{OCS}(p, q) = \frac{\sum_{v \in O} p(v)\, q(v)}
        {\sqrt{\sum_{v \in O} p(v)^2\, \sum_{v \in O} q(v)^2\, \max(1, K - |O|)}}, \qquad O = T_K(p) \cap T_K(q)

    and 0 where nothing is common, or nothing common has any probability. With the bare factor :math:`K - |O|` equal
    distributions would divide by zero, though the paper's reference line is 1 there; the factor is therefore kept at 1
    or more. Equal inputs give exactly 1.

    Args:
        p: Distributions.
        q: Distributions of the same shape.
        k: The number of top tokens to compare.
        penalty: How :math:`K - |O|` enters the denominator: *guarded* as above; *plus one*, the factor
            :math:`K - |O| + 1`; *plain*, nowhere; *additive*, as a summand under the root.

    Raises:
        InputError: If ``k`` is not between 1 and the size of the vocabulary, or the penalty is unknown.

    Example:
        >>> p, q = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.4, 0.1, 0.2, 0.3])
        >>> [overlap_cosine(p, other, k=2).item() for other in (p, q, p.flip(0))]
        [1.0, 1.0, 0.0]
    """
    common = top_tokens(p, k) & top_tokens(q, k)
    a, b = (torch.where(common, t.double(), 0.0) for t in (p, q))
    require_one_of("overlap cosine", "penalty", penalty, PENALTIES)
    missing = k - common.sum(-1)
    factor = {"guarded": missing.clamp(min=1), "plus one": missing + 1}.get(penalty, torch.ones_like(missing))
    # For equal inputs this is s / sqrt(s * s), and the rounded root of a rounded square is exact.
    square = a.square().sum(-1) * b.square().sum(-1) * factor
    length = (square + missing if penalty == "additive" else square).sqrt()
    return torch.where(length > 0, (a * b).sum(-1) / length, 0.0)


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


def calibration_error(
    p: Float[Tensor, "item label"], right: Bool[Tensor, "item label"], bins: int = 10
) -> Float[Tensor, ""]:
    r"""The expected calibration error of the most probable label.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    over ``bins`` equally wide bins of the confidence, the largest probability; a bin holds its upper end.

    Args:
        p: Probabilities of the labels.
        right: The correct label.
        bins: The number of bins.

    References:
        Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks" (ICML 2017).

    Example:
        >>> p = torch.tensor([[0.95, 0.05], [0.75, 0.25]])
        >>> round(calibration_error(p, torch.tensor([[True, False], [False, True]])).item(), 6)  # (0.05 + 0.75) / 2
        0.4
    """
    confidence, chosen = p.double().max(-1)
    hit = right.gather(-1, chosen[:, None])[:, 0].double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, place, hit - confidence)
    return gaps.abs().sum() / len(p)


def brier_score(p: Float[Tensor, "*prompt label"], right: Bool[Tensor, "*prompt label"]) -> Float[Tensor, "*prompt"]:
    r"""The squared distance of a forecast from what came true, between 0 and 2.

    .. math:: \mathrm{BS} = \sum_l (p_l - [l \text{ is right}])^2

    Args:
        p: Probabilities of the labels.
        right: The correct label.

    References:
        Brier, "Verification of forecasts expressed in terms of probability" (Monthly Weather Review 1950).

    Example:
        >>> round(brier_score(torch.tensor([0.8, 0.2]), torch.tensor([True, False])).item(), 6)  # 0.04 + 0.04
        0.08
    """
    return (p.double() - right.double()).square().sum(-1)


def top_tokens(p: Float[Tensor, "*prompt token"], k: int) -> Bool[Tensor, "*prompt token"]:
    """Which tokens are among the ``k`` most probable; equal probabilities rank by token id."""
    if not 1 <= k <= p.shape[-1]:
        raise InputError(f"top tokens: k must lie between 1 and the {p.shape[-1]} tokens there are; got {k}.")
    # No sorting: a vocabulary has tens of thousands of tokens, and few of them are wanted.
    least = p.topk(k, dim=-1).values[..., -1:]
    above, equal = p > least, p == least
    return above | (equal & (equal.cumsum(-1) <= k - above.sum(-1, keepdim=True)))

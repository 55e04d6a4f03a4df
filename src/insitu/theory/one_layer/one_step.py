r"""One preconditioned step of gradient descent on the prompt, which is what one linear-attention layer learns.

The answer is :math:`\hat y = x_q^\top A \frac1M \sum_{i \le M} y_i x_i` with inputs :math:`x_i \sim N(0, \Lambda)`,
weights with second moment :math:`E[w w^\top] = W`, labels :math:`y_i = w^\top x_i + \epsilon_i` of noise variance
:math:`s^2`, and the error is against the clean :math:`w^\top x_q`. All rests on one moment of :math:`S = \frac1M \sum_i
x_i x_i^\top`:

.. math:: E[S W S] = \Big(1 + \frac1M\Big) \Lambda W \Lambda + \frac1M \mathrm{tr}(W \Lambda) \Lambda

Special cases of :func:`best_step`: :math:`W = I, s = 0` (Zhang et al. 2024; Ahn et al. 2023, theorem 1);
:math:`W = \psi^2 I` (Wu et al. 2023); :math:`W = \Lambda^{-1}` (Ahn et al. 2023, theorem 3; Mahankali et al. 2023).

References:
    Derived; the cases above agree with the papers named.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_not_negative
from insitu.theory.arguments import require_covariance, require_length, validated

__all__ = ["best_step", "best_step_loss", "label_moment", "step_error"]

Square = Float[Tensor, "dim dim"]


@validated
def label_moment(covariance: Square, length: int | float, weights: Square, noise_variance: float) -> Square:
    r"""The second moment of :math:`\frac1M \sum_i y_i x_i`: :math:`E[S W S] + \frac{s^2}{M} \Lambda`."""
    require_length("label_moment", "length", length)
    product = covariance @ weights @ covariance
    alone = (weights * covariance).sum() + noise_variance
    return (1 + 1 / length) * product + alone / length * covariance


@validated
def step_error(
    step: Square,
    covariance: float | Square,
    length: int | float,
    *,
    query: float | Square | None = None,
    weights: float | Square | None = None,
    noise_variance: float = 0.0,
) -> float:
    r"""The expected squared error :math:`E(\hat y - w^\top x_q)^2` of one step A on any prompts and any queries.

    .. math:: \mathrm{tr}\big( \Lambda_q [ A (E[SWS] + \tfrac{s^2}{M} \Lambda) A^\top
        - A \Lambda W - W \Lambda A^\top + W ] \big)

    Args:
        step: The matrix :math:`A`, whatever it was trained on.
        covariance: The covariance :math:`\Lambda` of the prompt's inputs; a number c stands for c I, here and below.
        length: The number M of examples in the prompt, or ``math.inf``.
        query: The covariance :math:`\Lambda_q` of the query (default: that of the prompt).
        weights: :math:`W` (default: the identity); ``torch.outer(w, w)`` for one fixed task w.
        noise_variance: The variance :math:`s^2` of the label noise; the target has none.

    Raises:
        InputError: If a matrix is no covariance or has another size, or the noise is negative.

    References:
        Derived; the setting of section 4.2 of Zhang et al. (2024).

    Example:
        >>> round(step_error(torch.eye(20) / 1.525, covariance=1, length=40) / 20, 4)
        0.3443
        >>> round(step_error(torch.eye(20) / 1.525, covariance=2, length=40) / (2 * 20), 4)  # as bad as answering 0
        1.0
    """
    dim = len(step)
    spread, query_spread, prior = matrices("step_error", dim, length, covariance, query, weights, noise_variance)
    moment = label_moment(spread, length, prior, noise_variance)
    linear = step @ spread @ prior
    return (query_spread * (step @ moment @ step.T - linear - linear.T + prior)).sum().item()


@validated
def best_step(
    covariance: Square, length: int | float, *, weights: float | Square | None = None, noise_variance: float = 0.0
) -> Square:
    r"""The matrix A with the least error.

    .. math:: A^* = W \Lambda \Big[ \Big(1 + \frac1N\Big) \Lambda W \Lambda
        + \frac{\mathrm{tr}(W\Lambda) + s^2}{N} \Lambda \Big]^{-1}

    Args:
        covariance: The covariance :math:`\Lambda`, positive definite.
        length: The context length N, or ``math.inf``.
        weights: The second moment W of the task's weights, positive semidefinite (default: the identity).
        noise_variance: The variance of the label noise.

    Raises:
        InputError: If a matrix is no covariance or has another size, or at N = inf the weights are singular, where
            the best step is not unique.

    Example:
        >>> best_step([[1]], length=1)
        tensor([[0.3333]], dtype=torch.float64)
    """
    require_covariance("best_step", "covariance", covariance)
    dim = len(covariance)
    spread, _, prior = matrices("best_step", dim, length, covariance, None, weights, noise_variance)
    alone = ((prior * spread).sum() + noise_variance) / length
    if not alone > 0:
        require_covariance("best_step", "weights", prior)
    # The bracket is Lambda ((1 + 1/N) W Lambda + alone I), so Lambda cancels: A* = W ((1 + 1/N) Lambda W + alone I)^-1.
    inner = (1 + 1 / length) * spread @ prior + alone * torch.eye(dim, dtype=torch.float64)
    return torch.linalg.solve(inner, prior, left=False)


@validated
def best_step_loss(
    covariance: Square, length: int | float, *, weights: float | Square | None = None, noise_variance: float = 0.0
) -> float:
    r"""The least population loss, :math:`\frac12 [\mathrm{tr}(\Lambda W) - \mathrm{tr}(\Lambda A^* \Lambda W)]`.

    It has the factor 1/2 of the training loss; the error is twice this.
    """
    step = best_step(covariance, length, weights=weights, noise_variance=noise_variance)
    return step_error(step, covariance, length, weights=weights, noise_variance=noise_variance) / 2


def matrices(
    who: str,
    dim: int,
    length: int | float,
    covariance: float | Square,
    query: float | Square | None,
    weights: float | Square | None,
    noise_variance: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The three matrices, defaults filled in, after every check."""
    require_length(who, "length", length)
    require_not_negative(who, "noise_variance", noise_variance)
    chosen = {
        "covariance": covariance,
        "query": covariance if query is None else query,
        "weights": 1.0 if weights is None else weights,
    }
    filled = {
        name: value if isinstance(value, Tensor) else value * torch.eye(dim, dtype=torch.float64)
        for name, value in chosen.items()
    }
    for name, matrix in filled.items():
        require_covariance(who, name, matrix, singular=True)
    return filled["covariance"], filled["query"], filled["weights"]

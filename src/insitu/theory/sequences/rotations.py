r"""Exact facts about sequences :math:`s_{t+1} = W s_t` with W made of 2 x 2 rotation blocks.

References:
    Sander et al. (2024), the orthogonal context.
"""

from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError
from insitu.theory.arguments import validated

__all__ = ["three_term_step"]


@validated
def three_term_step(
    before: Float[Tensor, "*batch dim"], now: Float[Tensor, "*batch dim"]
) -> Float[Tensor, "*batch dim"]:
    r"""The next entry from the last two, by the recurrence of a rotation.

    Each block of coordinates (2b, 2b + 1) turns by one angle, and a rotation obeys
    :math:`R_\theta^2 = 2 \cos\theta R_\theta - I`, so

    .. math:: s_{t+1} = 2 \cos\theta_b\, s_t - s_{t-1}, \qquad
        \cos\theta_b = \frac{\langle s_{t-1}, s_t \rangle_b}{\|s_{t-1}\|_b^2} .

    It is the map that a trained layer with at most half as many heads as coordinates applies to its context.

    Args:
        before: :math:`s_{t-1}`.
        now: :math:`s_t`.

    Raises:
        InputError: If the dimension is odd, or a block of ``before`` is zero and has no angle.

    Example:
        >>> three_term_step([1, 0], [0, 1])
        tensor([-1.,  0.], dtype=torch.float64)
    """
    if now.shape[-1] % 2:
        raise InputError(
            f"three_term_step: rotation blocks pair the coordinates, so dim must be even; got {now.shape[-1]}."
        )
    a, b = before.unflatten(-1, (-1, 2)), now.unflatten(-1, (-1, 2))
    size = a.square().sum(-1, keepdim=True)
    if (size == 0).any():
        raise InputError("three_term_step: a block of the earlier entry is zero, so its angle is undefined.")
    cosine = (a * b).sum(-1, keepdim=True) / size
    return (2 * cosine * b - a).flatten(-2)

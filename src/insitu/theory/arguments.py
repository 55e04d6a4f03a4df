"""What may stand for a covariance, a context length or a number of examples in the exact theory."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_count

__all__ = ["require_covariance", "require_length", "require_shape"]


def require_covariance(who: str, name: str, given: Float[Tensor, "..."], *, singular: bool = False) -> None:
    """Refuse what is no covariance.

    Args:
        who: Who complains.
        name: What the caller calls the matrix.
        given: The matrix.
        singular: Whether directions without any variance are allowed.

    Raises:
        InputError: If the matrix is not square, finite, symmetric and positive definite (or semidefinite); the
            message names the condition that fails.
    """
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not given.numel() or not given.isfinite().all():
        raise InputError(f"{who}: {name} must be square and finite; got shape {tuple(given.shape)}.")
    scale = given.abs().max()
    if (given - given.T).abs().max() > 1e-12 * scale:
        raise InputError(f"{who}: {name} must be symmetric; take (C + C.T) / 2 if rounding broke it.")
    values = torch.linalg.eigvalsh(given.double())
    require_eigenvalues(who, name, values, singular=singular)


def require_eigenvalues(who: str, name: str, values: Float[Tensor, " dim"], *, singular: bool = False) -> None:
    """Refuse ascending eigenvalues that are no covariance's."""
    least, largest = values[0].item(), values[-1].item()
    allowed = least >= -1e-12 * abs(largest) if singular else least > 1e-14 * largest
    if not allowed:
        what = "positive semidefinite" if singular else "positive definite"
        raise InputError(
            f"{who}: {name} must be {what}; its least and largest eigenvalues are {least:.3g} and {largest:.3g}. "
            "Drop the directions in which no input varies."
        )


def require_length(who: str, name: str, value: int | float) -> None:
    """Refuse a context length that is neither a whole number of at least 1 nor infinity.

    Raises:
        InputError: If ``value`` is neither.
    """
    if not (isinstance(value, float) and value == math.inf):
        require_count(who, name, value, least=1)


def require_shape(who: str, name: str, given: Float[Tensor, "..."], shape: tuple[int, ...]) -> None:
    """Refuse a tensor of another shape, or one that is not finite.

    Raises:
        InputError: If the shape differs or an entry is not finite.
    """
    if tuple(given.shape) != shape or not given.isfinite().all():
        wanted = " x ".join(map(str, shape)) or "a single number"
        raise InputError(f"{who}: {name} must be {wanted} and finite; got shape {tuple(given.shape)}.")

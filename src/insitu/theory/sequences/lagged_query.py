r"""The least loss of diagonal heads for each query token: a bound in which every term has its own weight.

With the query :math:`s_{T-l}` the layer of :mod:`insitu.theory.sequences.diagonal_heads` adds up the monomials
:math:`\bar s_{T-l,j}\, s_{t,j}\, s_{t,k}` over t and j. Give each a free weight, which no choice of heads and positions
beats. Monomials in independent uniform eigenvalues are equal or orthogonal, so the least loss of a coordinate is 0 if
the target :math:`s_{T+1,k} = \lambda_k^T` is among them and 1 if it is not. With the last token as the query (l = 0)
the powers of :math:`\lambda_k` end at T - 1; with the one before (l = 1) at T.

References:
    Derived; Sander et al. (2024) use l = 1 in theory, and the code of their experiments l = 0.
"""

from collections.abc import Iterator

from insitu.errors import InputError, require_count
from insitu.theory.arguments import validated
from insitu.theory.sequences.diagonal_heads import Commuting, DiagonalHeads

__all__ = ["relaxed_minimum", "terms"]

# The exponent of every independent eigenvalue.
Monomial = tuple[int, ...]


def monomial(dim: int, context: Commuting, powers: list[tuple[int, int]]) -> Monomial:
    """A product of powers of coordinates; a pair's second coordinate is the inverse of its first."""
    exponents = [0] * dim
    for place, power in powers:
        paired = context == "orthogonal" and place % 2
        exponents[place - 1 if paired else place] += -power if paired else power
    return tuple(exponents)


@validated
def terms(dim: int, length: int, context: Commuting, lag: int, coordinate: int) -> Iterator[Monomial]:
    """The monomials of a coordinate of the answer, over t = 1..length and j."""
    for t in range(1, length + 1):
        for j in range(dim):
            yield monomial(dim, context, [(j, t - (length - lag)), (coordinate, t - 1)])


@validated
def relaxed_minimum(dim: int, length: int, context: Commuting = "unitary", lag: int = 1) -> float:
    """The least loss per coordinate over free weights of all terms, for sequences of exactly this length.

    Args:
        dim: The number of eigenvalues.
        length: The length T.
        context: As for :class:`~insitu.theory.sequences.diagonal_heads.DiagonalHeads`.
        lag: The distance of the query from the last token.

    Raises:
        InputError: If the sizes do not fit, or the query lies before the sequence.

    Example:
        >>> relaxed_minimum(4, 6, "orthogonal", lag=0), relaxed_minimum(4, 6, "orthogonal", lag=1)
        (1.0, 0.0)
    """
    DiagonalHeads(dim, length, context)
    require_count("relaxed_minimum", "lag", lag)
    if lag >= length:
        raise InputError(f"relaxed_minimum: lag must be below the length {length}; got {lag}.")
    missed = [monomial(dim, context, [(k, length)]) not in set(terms(dim, length, context, lag, k)) for k in range(dim)]
    return sum(missed) / dim

"""The names of papers and claims, as a user types them."""

from collections.abc import Iterable

from insitu.errors import InputError, near_matches

__all__ = ["require_known"]


def require_known(ids: Iterable[str], papers: Iterable[str], claims: Iterable[str]) -> None:
    """Refuse an id that is neither a paper nor a claim.

    Raises:
        InputError: Names the nearest ones.

    Example:
        >>> require_known(["sand"], ["sander"], [])
        Traceback (most recent call last):
        insitu.errors.InputError: no paper or claim is called 'sand'; did you mean sander? List all with: insitu claims
    """
    known = dict.fromkeys([*papers, *claims])
    for name in ids:
        if name not in known:
            near = near_matches(name, known)
            raise InputError(f"no paper or claim is called {name!r}; {near} List all with: insitu claims")

"""The plainest families alone, for tests of what surrounds a search: it takes a tenth of the time."""

import pytest

from insitu.identification.families import FAMILIES
from insitu.learners import GradientDescent, LeastSquares, Mean, Ridge, Zero

KINDS = Zero | Mean | LeastSquares | Ridge | GradientDescent


@pytest.fixture
def few_families(monkeypatch):
    """Searches fit zero, the mean, least squares, ridge and descent alone."""
    plain = tuple(family for family in FAMILIES if not family.special and isinstance(family.example, KINDS))
    monkeypatch.setattr("insitu.identification.search.FAMILIES", plain)

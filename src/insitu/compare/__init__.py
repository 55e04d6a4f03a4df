"""Comparing answers: estimates with their error, and distances between answers."""

from insitu.compare.agreement import largest_gap, squared_error
from insitu.compare.estimate import Estimate

__all__ = ["Estimate", "largest_gap", "squared_error"]

"""Comparing answers: estimates with their error, and distances between answers."""

from insitu.metrics.agreement import largest_gap, squared_error
from insitu.metrics.estimate import Estimate

__all__ = ["Estimate", "largest_gap", "squared_error"]

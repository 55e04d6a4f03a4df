"""Tasks: distributions over episodes."""

from insitu.tasks.autoregression import (
    Autoregression,
    complex_entries,
    conjugate_pairs,
    orbit,
    real_entries,
    rotation_blocks,
    sequence_prompt,
)
from insitu.tasks.law import Gaussian, Law, UniformCube
from insitu.tasks.pool import Pool
from insitu.tasks.random_covariance import RandomCovariance
from insitu.tasks.regression import LinearClassification, LinearRegression, SigmoidRegression
from insitu.tasks.shift import Shifted
from insitu.tasks.task import FunctionTask, Task

__all__ = [
    "Autoregression",
    "FunctionTask",
    "Gaussian",
    "Law",
    "LinearClassification",
    "LinearRegression",
    "Pool",
    "RandomCovariance",
    "Shifted",
    "SigmoidRegression",
    "Task",
    "UniformCube",
    "complex_entries",
    "conjugate_pairs",
    "orbit",
    "real_entries",
    "rotation_blocks",
    "sequence_prompt",
]

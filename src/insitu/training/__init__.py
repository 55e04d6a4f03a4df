"""Training: one visible loop, and many networks as one."""

from insitu.training.ensemble import Ensemble
from insitu.training.loop import DivergenceError, Progress, Recipe, Step, train

__all__ = ["DivergenceError", "Ensemble", "Progress", "Recipe", "Step", "train"]

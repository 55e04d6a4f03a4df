"""Training: one visible loop, and many networks as one."""

from insitu.training.ensemble import Ensemble
from insitu.training.growth import Growth
from insitu.training.loop import DivergenceError, Progress, Recipe, Step, train
from insitu.training.resumable import train_resumably

__all__ = ["DivergenceError", "Ensemble", "Growth", "Progress", "Recipe", "Step", "train", "train_resumably"]

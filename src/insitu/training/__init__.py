"""Training: one visible loop, and many networks as one."""

from insitu.training.ensemble import Ensemble
from insitu.training.growth import Growth
from insitu.training.loop import DivergenceError, Progress, Recipe, Step, train
from insitu.training.resumable import train_resumably
from insitu.training.supervision import Batches, token_losses

__all__ = [
    "Batches",
    "DivergenceError",
    "Ensemble",
    "Growth",
    "Progress",
    "Recipe",
    "Step",
    "token_losses",
    "train",
    "train_resumably",
]

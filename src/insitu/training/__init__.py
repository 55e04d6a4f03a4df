"""Training: one visible loop, and many networks as one."""

from insitu.training.ensemble import Ensemble
from insitu.training.growth import Growth
from insitu.training.loop import DivergenceError, Progress, Recipe, Step, train
from insitu.training.operations import forward_operations, training_hours
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
    "forward_operations",
    "token_losses",
    "train",
    "train_resumably",
    "training_hours",
]

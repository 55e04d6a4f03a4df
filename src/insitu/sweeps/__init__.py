"""Sweeps: lists of claims or trainings over grids of settings and seeds, and their tables."""

from insitu.sweeps.over_trainings import OverTrainings, over_trainings
from insitu.sweeps.plan_file import read_sweep
from insitu.sweeps.sweep import ClaimSweep, Sweep, TrainingSweep, claim_jobs, left_out

__all__ = [
    "ClaimSweep",
    "OverTrainings",
    "Sweep",
    "TrainingSweep",
    "claim_jobs",
    "left_out",
    "over_trainings",
    "read_sweep",
]

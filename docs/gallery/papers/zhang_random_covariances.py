"""
One layer cannot learn a covariance that varies
===============================================

If every prompt has a covariance of its own, no single step of gradient descent suits all of them. However long the
prompts, an error remains that depends on how much the covariance varies (:doc:`Zhang et al., 2024
</papers/zhang2024>`, theorem 4.5 and equation 4.13).
"""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from insitu import theory

DIM = 5
LENGTHS = np.unique(np.geomspace(5, 10_000, 40).astype(int))
# Gamma laws of mean one: the shape decides how much an eigenvalue varies.
LAWS = {"varies much (exponential)": 1.0, "varies less (gamma, shape 4)": 4.0, "fixed": math.inf}


def moments(shape: float) -> list[list[float]]:
    """The first three moments of every eigenvalue."""
    second, third = (1 + 1 / shape), (1 + 1 / shape) * (1 + 2 / shape)
    return [[1.0, second, third]] * DIM


def plot(axes: Axes) -> Axes:
    """The least error over the length of prompts, and its limit."""
    for colour, (name, shape) in enumerate(LAWS.items()):
        laws = [theory.DiagonalCovariances.from_moments(moments(shape), length=int(n)) for n in LENGTHS]
        axes.loglog(LENGTHS, [2 * law.minimum_loss() / DIM for law in laws], color=f"C{colour}", label=name)
        limit = theory.limit_error(moments(shape))[0].item()
        if limit > 0:
            axes.axhline(limit, color=f"C{colour}", linestyle="dashed", linewidth=1.2)
    axes.plot([], [], color="0.3", linestyle="dashed", linewidth=1.2, label="limit of infinite prompts")
    axes.set(xlabel="examples in training and at test", ylabel="squared error over that of answering zero")
    axes.set_title("The best error of one layer")
    axes.legend()
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

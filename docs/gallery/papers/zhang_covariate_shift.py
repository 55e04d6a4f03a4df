"""
Covariate shift: a trained layer breaks, least squares does not
===============================================================

A layer trained on inputs of unit variance has the inverse of that covariance in its weights. On inputs whose two
directions have other variances its error grows until it is worse than answering zero; least squares would answer
without error everywhere on this map (:doc:`Zhang et al., 2024 </papers/zhang2024>`, section 4.2).
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from insitu import theory

LENGTH = 100
VARIANCES = np.geomspace(0.1, 10, 41)


def error(step: np.ndarray, first: float, second: float) -> float:
    """The mean squared error over that of answering zero."""
    covariance = np.diag([first, second])
    return theory.step_error(step, covariance=covariance, length=LENGTH) / (first + second)


def plot(axes: Axes) -> Axes:
    """The error over both variances at test; the white cross is the training distribution."""
    step = theory.Population(np.eye(2), LENGTH).best_step
    errors = np.array([[error(step, a, b) for a in VARIANCES] for b in VARIANCES])
    image = axes.pcolormesh(VARIANCES, VARIANCES, np.log10(errors), shading="nearest", vmax=2, rasterized=True)
    lines = axes.contour(VARIANCES, VARIANCES, errors, levels=(0.1, 1.0, 10), colors="white", linewidths=1)
    axes.clabel(lines, fmt="%g")
    axes.plot(1, 1, "x", color="white", markersize=8, markeredgewidth=2)
    axes.annotate("training", (1, 1), (1.15, 1.15), color="white")
    axes.set(xscale="log", yscale="log", xlabel="variance of the first input", ylabel="variance of the second input")
    axes.set_title("Error under covariate shift")
    bar = axes.figure.colorbar(image, ax=axes, label="relative squared error")
    bar.set_ticks([-1, 0, 1, 2], labels=["0.1", "1", "10", "100"])
    axes.grid(False)
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

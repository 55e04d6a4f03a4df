"""
The exact risk over shift and length
====================================

One layer of linear attention, trained on prompts of 40 examples, meets inputs of another size at every prompt length.
Nothing is sampled: each cell is a closed form. Short training prompts have made its step cautious, so long prompts
are answered best where inputs are half as large again as in training, and beyond a variance of three not at all.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from insitu import theory

DIM, TRAINED = 20, 40
SCALES = np.geomspace(0.25, 4, 49)
LENGTHS = np.unique(np.geomspace(5, 2000, 49).astype(int))


def error(step: np.ndarray, variance: float, length: int) -> float:
    """The mean squared error over that of answering zero."""
    return theory.step_error(step, covariance=variance, length=int(length)) / (variance * DIM)


def plot(axes: Axes) -> Axes:
    """The error over the variance of the inputs and the number of examples at test."""
    step = theory.Population(np.eye(DIM), TRAINED).best_step
    errors = np.array([[error(step, variance, length) for variance in SCALES] for length in LENGTHS])
    image = axes.pcolormesh(SCALES, LENGTHS, np.log10(errors), shading="nearest", rasterized=True)
    lines = axes.contour(SCALES, LENGTHS, errors, levels=(0.2, 0.5, 1.0, 3.0), colors="white", linewidths=1)
    axes.clabel(lines, fmt="%g")
    axes.plot(1, TRAINED, "x", color="white", markersize=8, markeredgewidth=2)
    axes.annotate("training", (1, TRAINED), (1.1, TRAINED), color="white")
    axes.set(xscale="log", yscale="log", xlabel="variance of an input", ylabel="examples in the prompt")
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
    axes.minorticks_off()
    axes.set_title("Error over that of answering zero")
    bar = axes.figure.colorbar(image, ax=axes, label="relative squared error")
    bar.set_ticks([-1, 0, 1], labels=["0.1", "1", "10"])
    axes.grid(False)
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

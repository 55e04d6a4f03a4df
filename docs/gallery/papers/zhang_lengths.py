"""
The length in training sets a floor, the length at test the distance to it
==========================================================================

The exact error of one trained layer of linear attention, over the number of examples in training and at test. Longer
test prompts lower it until the floor that the training length leaves; the contours bend where one takes over from the
other (:doc:`Zhang et al., 2024 </papers/zhang2024>`, theorem 4.2).
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from insitu import theory

DIM = 10
LENGTHS = np.unique(np.geomspace(4, 1000, 40).astype(int))


def error(train: int, test: int) -> float:
    """The mean squared error over that of answering zero."""
    return theory.average_linear_risk(theory.Population(np.eye(DIM), int(train)), int(test)).total / DIM


def plot(axes: Axes) -> Axes:
    """The error as a map, with contours."""
    errors = np.array([[error(train, test) for train in LENGTHS] for test in LENGTHS])
    image = axes.pcolormesh(LENGTHS, LENGTHS, np.log10(errors), shading="nearest", rasterized=True)
    levels = (0.02, 0.05, 0.1, 0.2, 0.5)
    lines = axes.contour(LENGTHS, LENGTHS, errors, levels=levels, colors="white", linewidths=1)
    axes.clabel(lines, fmt="%g")
    axes.set(xscale="log", yscale="log", xlabel="examples in a training prompt", ylabel="examples in a test prompt")
    axes.set_title("Error of a trained layer")
    bar = axes.figure.colorbar(image, ax=axes, label="relative squared error")
    bar.set_ticks([-2, -1, 0], labels=["0.01", "0.1", "1"])
    axes.grid(False)
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

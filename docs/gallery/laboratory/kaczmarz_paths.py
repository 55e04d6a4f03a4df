"""
Two paths in the plane: descent, and one pass of Kaczmarz
=========================================================

Two unknown weights, three examples: each example is a line on which the weights fit it. With the prefix mask the
layers walk to the least-squares point inside the triangle; with the causal mask they end where projecting onto one
line after the other ends, on the last line (Kaczmarz).
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from insitu import theory
from insitu.learners import GradientDescent, Kaczmarz

XS = torch.tensor([[[1.0, 0.2], [0.5, 1.0], [-0.6, 0.8]]], dtype=torch.float64)
YS = torch.tensor([[[1.2], [1.9], [0.1]]], dtype=torch.float64)
RATE, LAYERS = 1.2, 60


def projections() -> torch.Tensor:
    """The weights after each projection, from zero."""
    path = Kaczmarz().prefix_weights(XS, YS)[0, :, 0]
    return torch.cat([torch.zeros(1, 2, dtype=path.dtype), path])


def lines(axes: Axes) -> None:
    """Where the weights fit each example."""
    for x, y in zip(XS[0], YS[0, :, 0], strict=True):
        foot, along = y * x / x.square().sum(), torch.stack([-x[1], x[0]]) / x.norm()
        ends = torch.stack([foot - 4 * along, foot + 4 * along])
        axes.plot(*ends.mT, color="0.6", linewidth=1.2)
    axes.plot([], [], color="0.6", linewidth=1.2, label="weights that fit one example")


def plot(axes: Axes) -> Axes:
    """The lines of the examples, and the paths of the weights from zero."""
    lines(axes)
    descent = GradientDescent(steps=LAYERS, rate=RATE).prefix_iterates(XS, YS)[0, -1, :, 0]
    causal = theory.place_iterates(XS, YS, rate=RATE, layers=LAYERS)[:, 0, -1, 0]
    axes.plot(*descent.mT, "o-", color="C0", markersize=3.5, linewidth=1.2, label="layers, prefix mask")
    axes.plot(*causal.mT, "s-", color="C1", markersize=3.5, linewidth=1.2, label="layers, causal mask")
    axes.plot(*projections().mT, "^--", color="C2", markersize=6, linewidth=1.4, label="one pass of Kaczmarz")
    axes.set(xlabel="first weight", ylabel="second weight", xlim=(-0.4, 2.1), ylim=(-0.2, 1.9), aspect="equal")
    axes.set_title("The same examples, two limits")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1))
    return axes


plt.style.use("insitu.style")
plot(plt.figure(figsize=(6.4, 3.6)).subplots())
plt.show()

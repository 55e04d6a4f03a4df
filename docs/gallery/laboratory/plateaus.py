"""
From saddle to saddle, at the losses that theory names
======================================================

Attention heads with keys and queries of rank one learn the directions of the inputs one after the other, the largest
first. Between two drops training waits; the dashed lines are the losses at which it waits, in closed form (Zhang,
Singh, Latham and Saxe, 2025; :doc:`a claim </papers/zhang2024>` checks it).
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

import insitu
from insitu import theory


def plot(axes: Axes) -> Axes:
    """The loss along the flow, and the losses of its plateaus."""
    population = theory.Population(np.diag([4.0, 2.0, 1.0]), length=20)
    for level in theory.plateau_losses(population):
        axes.axhline(level, color="C1", linestyle="dashed", linewidth=1.2)
    axes.plot([], [], color="C1", linestyle="dashed", linewidth=1.2, label="plateaus of theory")
    for start in range(3):
        flow = theory.staircase(population, insitu.Seed(start), heads=6, start=0.01, horizon=2000)
        axes.semilogx(flow.times, flow.losses, color="C0", alpha=1 - 0.3 * start, label="flow" if start == 0 else None)
    axes.set(xlabel="time of gradient flow", ylabel="loss (units of y²)", xlim=(1, 2000))
    axes.set_title("Rank-one heads, three random starts")
    axes.legend()
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

"""
Training falls faster than its bound
====================================

Gradient flow trains one layer of linear attention on infinitely many prompts. Its loss waits on a plateau, then falls
to the global minimum, below the exponential bound of the theory all the way (:doc:`Zhang et al., 2024
</papers/zhang2024>`, theorem 4.1 and equation A.14).
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from insitu import theory


def plot(axes: Axes) -> Axes:
    """The gap to the least loss over time, and the bound from its start."""
    times = torch.logspace(-1, 4.5, 400, dtype=torch.float64)
    for colour, length in enumerate((5, 20, 80)):
        population = theory.Population(torch.diag(torch.tensor([2.0, 1.0, 0.5, 0.5])), length)
        scale = 0.5 * population.initialisation_limit()
        start = population.balanced_start(torch.eye(4), scale)
        gap = population.flow(*start, times).losses - population.minimum_loss()
        axes.loglog(times, gap, color=f"C{colour}", label=f"training prompts of {length} examples")
        bound = gap[0] * torch.exp(-population.descent_constant(*start) * times)
        axes.loglog(times, bound, color=f"C{colour}", linestyle="dashed", linewidth=1.2)
    axes.plot([], [], color="0.3", linestyle="dashed", linewidth=1.2, label="bound")
    axes.set(xlabel="time of gradient flow", ylabel="loss above the minimum (units of y²)", ylim=(1e-10, 10))
    axes.set_title("The loss along training, and its bound")
    axes.legend()
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

"""
Two masks, one network: the error over depth
============================================

The same linear-attention weights answer queries under a prefix mask and under a causal mask. With the prefix mask
every layer is a step of gradient descent towards least squares; with the causal mask the error stalls at a limit that
theory gives exactly (:doc:`Ding et al., 2024 </papers/ding2024>`, figure 2).
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import insitu
from insitu import theory
from insitu.metrics import squared_error
from insitu.models import Causal, Mask, Prefix, gradient_descent
from insitu.tasks import LinearRegression, UniformCube

DIM, POINTS, LAYERS = 16, 40, 100


def errors(mask: Mask) -> torch.Tensor:
    """The mean squared error of a query before the first layer and after each."""
    episode = LinearRegression(UniformCube(DIM)).sample(insitu.Seed(0), batch=512, points=POINTS, queries=4)
    network = gradient_descent(dim=DIM, steps=LAYERS, rate=1.6, mask=mask)
    with torch.no_grad():
        return squared_error(network.predict_layers(episode.prompt), episode).mean(1)


def plot(axes: Axes) -> Axes:
    """Both masks, and the exact limit of the causal one."""
    axes.semilogy(errors(Causal()), color="C1", label="causal mask")
    limit = theory.causal_error(DIM, points=POINTS, second_moment=1 / 3)[-1].item()
    axes.axhline(limit, color="C1", linestyle="dashed", label="its exact limit")
    axes.semilogy(errors(Prefix()), color="C0", label="prefix mask")
    axes.set(xlabel="layers", ylabel="mean squared error of a query (units of y²)")
    axes.set_title("The same weights under two masks")
    axes.legend()
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

"""
A rate for long prompts overshoots on short ones
================================================

A network's rate is fixed by its weights. The rate that is best for 40 examples is too large for some prompts of 16:
on those the prefix mask diverges with depth, and the causal mask does not (:doc:`Ding et al., 2024
</papers/ding2024>`, table 6 and section 5.1).
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import insitu
from insitu.metrics import squared_error
from insitu.models import Causal, Mask, Prefix, gradient_descent
from insitu.tasks import LinearRegression, UniformCube

DIM, LAYERS, RATE = 16, 50, 1.6
LENGTHS = tuple(range(16, 41, 2))


def errors(mask: Mask, points: int) -> torch.Tensor:
    """The squared error of every prompt after the last layer."""
    episode = LinearRegression(UniformCube(DIM)).sample(insitu.Seed(0), batch=512, points=points, queries=2)
    network = gradient_descent(dim=DIM, steps=LAYERS, rate=RATE, mask=mask)
    with torch.no_grad():
        return squared_error(network.predict(episode.prompt), episode)


def plot(axes: Axes) -> Axes:
    """The mean over prompts, and the prompts between the tenth and the ninetieth of a hundred."""
    for colour, (name, mask) in enumerate({"prefix mask": Prefix(), "causal mask": Causal()}.items()):
        found = torch.stack([errors(mask, points) for points in LENGTHS])
        low, high = (found.quantile(share, dim=1) for share in (0.1, 0.9))
        axes.semilogy(LENGTHS, found.mean(1), color=f"C{colour}", label=f"{name}, mean")
        axes.fill_between(LENGTHS, low, high, color=f"C{colour}", alpha=0.2, label=f"{name}, 8 of 10 prompts")
    axes.axvline(40, color="0.5", linestyle="dotted", label="the length that the rate suits")
    axes.set(xlabel="examples in the prompt", ylabel=f"squared error after {LAYERS} layers (units of y²)")
    axes.set_title("One rate, prompts of several lengths")
    axes.legend()
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

"""
Which iterate every layer holds
===============================

A network of linear attention is set by hand to run gradient descent, and every layer is read out onto the iterates of
gradient descent. The dark diagonal says that layer and step are the same thing; where a network does something else
it is not there.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

import insitu
from insitu.learners import GradientDescent
from insitu.models import Causal, Mask, Prefix, gradient_descent
from insitu.tasks import Gaussian, LinearRegression

DIM, LAYERS, RATE = 6, 12, 0.5


def distances(mask: Mask) -> torch.Tensor:
    """The relative squared distance of every layer's answers to those of every number of steps."""
    prompt = LinearRegression(Gaussian(DIM)).sample(insitu.Seed(0), batch=256, points=18, queries=4).prompt
    with torch.no_grad():
        layers = gradient_descent(dim=DIM, steps=LAYERS, rate=RATE, mask=mask).predict_layers(prompt)
    steps = torch.stack([GradientDescent(steps=k, rate=RATE).predict(prompt) for k in range(1, LAYERS + 1)])
    missed = (layers[1:, None] - steps[None]).square().flatten(2).mean(-1)
    return missed / steps.square().flatten(1).mean(-1)


def plot(axes: Axes, mask: Mask, name: str) -> Axes:
    """A row for each layer and a column for each number of steps; darker is nearer."""
    found = distances(mask).clamp(min=1e-6)
    place = (0.5, LAYERS + 0.5, LAYERS + 0.5, 0.5)
    image = axes.imshow(found.numpy(), norm=LogNorm(1e-4, 1), extent=place)
    axes.set(xlabel="steps of gradient descent", ylabel="layer")
    axes.set_title(name)
    axes.figure.colorbar(image, ax=axes, label="relative squared distance", shrink=0.8, extend="min")
    axes.grid(False)
    return axes


plt.style.use("insitu.style")
left, right = plt.figure(figsize=(8, 3.6)).subplots(1, 2)
plot(left, Prefix(), "prefix mask: layer = step")
plot(right, Causal(), "causal mask: another path")
plt.show()

"""
Six answers to the same eight examples
======================================

The prompt is eight points in the plane, and every learner continues them in its own way over the whole line. Which of
these does your model draw? Evaluating it at many points of a line is the simplest look at the algorithm that it runs.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import insitu

LEARNERS = (
    "LeastSquares(intercept=True)",
    "Ridge(penalty=4.0, intercept=True)",
    "GaussianProcess(length_scale=0.7, penalty=0.02, kernel='rbf')",
    "KernelSmoother(bandwidth=0.3)",
    "NearestNeighbours(k=1)",
    "Mean()",
)


def prompt() -> insitu.Prompt:
    """Eight noisy points of a bent line, and many queries."""
    seed = insitu.Seed(3) / "line"
    xs = (4 * (seed / "inputs").uniform(8, 1) - 2).sort(0).values
    ys = xs / 2 + torch.sin(2 * xs) / 2 + 0.15 * (seed / "noise").normal(8, 1)
    queries = torch.linspace(-2.5, 2.5, 300, dtype=torch.float64)[:, None]
    return insitu.Prompt(xs[None], ys[None], queries[None])


def plot(axes: Axes) -> Axes:
    """The examples as points, and a curve for each learner."""
    given = prompt()
    for colour, expression in enumerate(LEARNERS):
        stroke = ("-", "--")[colour % 2]
        answers = insitu.load(expression).predict(given)[0, :, 0]
        axes.plot(given.queries[0, :, 0], answers, stroke, color=f"C{colour}", linewidth=1.6, label=expression)
    axes.plot(given.xs[0, :, 0], given.ys[0, :, 0], "o", color="black", markersize=6, label="examples")
    axes.set(xlabel="input x", ylabel="answer", ylim=(-2.2, 2.2))
    axes.set_title("One prompt, six algorithms")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return axes


plt.style.use("insitu.style")
plot(plt.figure(figsize=(6.4, 5)).subplots())
plt.show()

"""
What a learner does with small and with large directions
========================================================

A learner fits what the examples say along each direction by a factor, its gain, which depends on how large the inputs
are there. Least squares trusts every direction, ridge the large ones, descent those that it had time for, and
principal components the largest alone; these curves are what identification looks at.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import insitu

COUNT = 60
SIZES = torch.logspace(-1.3, 0.45, COUNT, dtype=torch.float64)
LEARNERS = (
    "LeastSquares()",
    "Ridge(penalty=15.0)",
    "GradientDescent(steps=1, rate=0.12)",
    "GradientDescent(steps=8, rate=0.12)",
    "PrincipalComponents(k=20)",
)


def gains(expression: str) -> torch.Tensor:
    """The answer along every direction of a prompt whose examples lie along the axes and are all worth 1."""
    xs = torch.diag(SIZES) * COUNT**0.5
    ys, queries = xs.sum(1, keepdim=True), torch.eye(COUNT, dtype=torch.float64)
    return insitu.load(expression).predict(insitu.Prompt(xs[None], ys[None], queries[None]))[0, :, 0]


def plot(axes: Axes) -> Axes:
    """A curve for each learner."""
    strokes = ("-", "--", "-.", "-", ":")
    for colour, (expression, stroke) in enumerate(zip(LEARNERS, strokes, strict=True)):
        axes.semilogx(SIZES, gains(expression), stroke, color=f"C{colour}", label=expression)
    axes.set(xlabel="size of the inputs along a direction (root mean square)", ylabel="gain (1 fits, 0 ignores)")
    axes.set_title("Gain curves of five learners")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1))
    return axes


plt.style.use("insitu.style")
plot(plt.figure(figsize=(7.6, 3.6)).subplots())
plt.show()

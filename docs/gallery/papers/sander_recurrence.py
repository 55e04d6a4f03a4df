"""
Two entries of a rotation give the third
========================================

A point that turns by a constant angle obeys a recurrence of three terms: the next point is 2 cos θ times the last
minus the one before. A layer with few heads finds it, although it knows nothing of angles (:doc:`Sander et al., 2024
</papers/sander2024>`; the recurrence as the minimum is derived).
"""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from insitu import theory

ANGLE = math.radians(50)


def plot(axes: Axes) -> Axes:
    """The circle, two places on it, and the two arrows that lead to the third."""
    around = np.linspace(0, 2 * math.pi, 200)
    axes.plot(np.cos(around), np.sin(around), color="0.75", linewidth=1)
    before, now = (np.array([math.cos(t), math.sin(t)]) for t in (0.1, 0.1 + ANGLE))
    after = theory.three_term_step(before, now).numpy()
    stretched = 2 * math.cos(ANGLE) * now
    arrow = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 3, "linewidth": 2}
    axes.annotate("", stretched, (0, 0), arrowprops={**arrow, "color": "C0"})
    axes.annotate("", after, stretched, arrowprops={**arrow, "color": "C1"})
    axes.annotate("2 cos θ · s(t)", stretched / 2, (8, -12), textcoords="offset points", color="C0")
    axes.annotate("− s(t−1)", (stretched + after) / 2, (0, 6), textcoords="offset points", color="C1")
    for place, name, offset in ((before, "s(t−1)", (8, 0)), (now, "s(t)", (6, -12)), (after, "s(t+1)", (-40, 4))):
        axes.plot(*place, "o", color="C2")
        axes.annotate(name, place, offset, textcoords="offset points", weight="bold")
    axes.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal", xlim=(-1.3, 1.5))
    axes.set_title("s(t+1) = 2 cos θ · s(t) − s(t−1)")
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

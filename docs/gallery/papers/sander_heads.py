"""
Every head solves one dimension, or two
=======================================

A layer on plain tokens reads a sequence whose next entry is a fixed rotation of the last. With independent
eigenvalues each head solves one coordinate; with conjugate pairs it solves two, so half as many heads suffice
(:doc:`Sander et al., 2024 </papers/sander2024>`, section 4; the least losses are derived).
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from insitu import theory

DIM, LENGTH = 10, 8
CONTEXTS = {"independent eigenvalues": "unitary", "conjugate pairs": "orthogonal"}


def plot(axes: Axes) -> Axes:
    """The least loss for every number of heads."""
    heads = range(1, DIM + 1)
    for colour, (name, context) in enumerate(CONTEXTS.items()):
        problem = theory.DiagonalHeads(DIM, LENGTH, context)
        axes.plot(heads, [problem.minimum(h) for h in heads], "os"[colour] + "-", color=f"C{colour}", label=name)
    axes.set(xlabel="heads", ylabel="least loss (sum over coordinates)", xticks=heads)
    axes.set_title(f"What {DIM} coordinates cost with few heads")
    axes.legend()
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

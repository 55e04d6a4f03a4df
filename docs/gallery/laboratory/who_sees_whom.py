"""
Who sees whom
=============

Six examples and two queries under three masks. A filled cell means that the token of the row attends to the token of
the column; no token attends to another's query, so queries are answered independently of one another.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from insitu.models import Causal, Mask, Prefix

EXAMPLES, QUERIES = 6, 2


def plot(axes: Axes, mask: Mask, name: str) -> Axes:
    """The mask as cells: examples in blue, queries in orange."""
    visible = mask.visible(EXAMPLES, QUERIES).double()
    visible[EXAMPLES:] *= 2
    axes.imshow(visible.numpy(), cmap=ListedColormap(["#ffffff", "#0072b2", "#d1550a"]), vmin=0, vmax=2)
    tokens = [f"x{i + 1}" for i in range(EXAMPLES)] + [f"q{i + 1}" for i in range(QUERIES)]
    axes.set_xticks(range(len(tokens)), tokens)
    axes.set_yticks(range(len(tokens)), tokens)
    axes.set_xticks([i - 0.5 for i in range(1, len(tokens))], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, len(tokens))], minor=True)
    axes.grid(False)
    axes.grid(which="minor", color="0.85")
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="attended to", ylabel="attends")
    axes.set_title(name)
    return axes


plt.style.use("insitu.style")
places = plt.figure(figsize=(8, 3)).subplots(1, 3)
masks = {"prefix": Prefix(), "causal": Causal(), "prefix of 3, then causal": Prefix(length=3)}
for place, (title, shown) in zip(places, masks.items(), strict=True):
    plot(place, shown, title)
plt.show()

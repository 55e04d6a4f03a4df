"""
Longer prompts: fewer layers with one mask, more with the other
===============================================================

How many layers come within a thousandth of the limit of infinite depth? Every example adds to the curvature that the
prefix mask descends on, so longer prompts need fewer layers; under the causal mask each example gets its n-th part of
the rate, so they need more (derived from :doc:`Ding et al., 2024 </papers/ding2024>`, section 3).
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

import insitu
from insitu import theory
from insitu.tasks import LinearRegression, UniformCube

DIM, RATE = 8, 1.0
LENGTHS = (16, 24, 32, 48, 64, 96, 128)


def layers(mask: str, points: int) -> float:
    """The mean number of layers over prompts."""
    prompt = LinearRegression(UniformCube(DIM)).sample(insitu.Seed(0), batch=64, points=points).prompt
    return theory.layers_needed(prompt.xs, prompt.ys, rate=RATE, tolerance=1e-3, variant=mask).double().mean().item()


def plot(axes: Axes) -> Axes:
    """One curve for each mask."""
    for colour, mask in enumerate(("prefix", "causal")):
        axes.loglog(LENGTHS, [layers(mask, n) for n in LENGTHS], "o-", color=f"C{colour}", label=f"{mask} mask")
    axes.set_xticks(LENGTHS, [str(n) for n in LENGTHS])
    axes.minorticks_off()
    axes.set(xlabel="examples in the prompt", ylabel="layers to within 10⁻³ of the limit")
    axes.set_title("Depth that is needed, by the length of the prompt")
    axes.legend()
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

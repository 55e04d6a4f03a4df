"""
A language model's answers on a line
====================================

SmolLM2 is shown sixteen noisy points of a straight line as text, ``Input: 57 Output: 55``, and its whole distribution
over the next number is computed at inputs all along the range. Its mean answer rises with the examples, less steeply
than least squares, and its spread is far wider than their scatter. The legend says how far the answers of both learners
are from the model's, as root mean squares (``docs/smollm2.py`` measured the model).
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import insitu
from insitu import Prompt

# Somewhere above the place where this runs.
ROOT = next(folder for folder in (Path().resolve() / "_").parents if (folder / "results").is_dir())
MEASURED = json.loads((ROOT / "results/smollm2/line.json").read_text(encoding="utf-8"))
# A learner sees (number - centre) / scale.
CENTRE, SCALE = (MEASURED["lines"]["map"][name] for name in ("centre", "scale"))
LEAST_SQUARES = "LeastSquares(intercept=True)"
BANDWIDTHS = torch.logspace(-1.5, 1, 60, dtype=torch.float64).tolist()


def numbers(name: str) -> torch.Tensor:
    """A row of the measurement."""
    return torch.tensor(MEASURED[name], dtype=torch.float64)


def answers(learner: str) -> torch.Tensor:
    """What a learner answers to the same examples, in whole numbers."""
    xs, ys, queries = (((numbers(name) - CENTRE) / SCALE)[None, :, None] for name in ("xs", "ys", "queries"))
    return CENTRE + SCALE * insitu.load(learner).predict(Prompt(xs, ys, queries))[0, :, 0]


def distance(learner: str) -> float:
    """The root mean squared distance of a learner's answers from those of the model."""
    return (answers(learner) - numbers("mean")).square().mean().sqrt().item()


def plot(axes: Axes) -> Axes:
    """The model with its spread, least squares, and the smoother that is nearest to the model."""
    queries, mean, spread = (numbers(name) for name in ("queries", "mean", "spread"))
    smoother = min((f"KernelSmoother(bandwidth={b})" for b in BANDWIDTHS), key=distance)
    axes.fill_between(queries, mean - spread, mean + spread, color="C0", alpha=0.15, linewidth=0)
    axes.plot(queries, mean, "o-", color="C0", label="SmolLM2: mean, and one standard deviation")
    for name, learner, stroke in (
        ("least squares", LEAST_SQUARES, "C1--"),
        ("the nearest kernel smoother", smoother, "C2-."),
    ):
        axes.plot(queries, answers(learner), stroke, label=f"{name}: {distance(learner):.1f} away")
    axes.plot(numbers("xs"), numbers("ys"), "o", color="black", label="examples in the prompt")
    axes.set(xlabel="input (whole number)", ylabel="answer (whole number)", xlim=(0, 99), ylim=(0, 99))
    axes.set_title("SmolLM2 beside least squares and smoothing")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1)
    return axes


plt.style.use("insitu.style")
plot(plt.figure(figsize=(6.4, 5.6)).subplots())
plt.show()

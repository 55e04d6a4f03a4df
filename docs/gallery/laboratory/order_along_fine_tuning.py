"""
Order sensitivity along fine-tuning
===================================

SmolLM2 is fine-tuned on the same eight demonstrations in several orders, and after every few epochs its answers
without demonstrations are compared over orders. With the full batch the order has no effect however long it runs; with
batches of one the answers first depend on it as much as in-context learning does, and less as training converges. The
distance from the start stands beside it, since what has not moved depends on nothing (``docs/smollm2.py`` measured it;
:doc:`Shen et al., 2024 </papers/shen2024>`, section 4).
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

# Somewhere above the folder where this runs.
ROOT = next(folder for folder in (Path().resolve() / "_").parents if (folder / "results").is_dir())
MEASURED = json.loads((ROOT / "results/smollm2/orders.json").read_text(encoding="utf-8"))
NAMES = {"gd": "full batch", "sgd1": "batches of 1"}


def curves(measure: str) -> dict[str, np.ndarray]:
    """A measure by the way of fine-tuning, with a row for every set of demonstrations."""
    arms: dict[str, list[list[float]]] = {}
    for row in MEASURED["rows"]:
        arms.setdefault(row["arm"], []).append(row["measures"][measure])
    return {arm: np.array(rows) for arm, rows in arms.items()}


def plot(axes: Axes, measure: str, label: str, scale: str) -> Axes:
    """Means and ranges over sets of demonstrations, and the level of in-context learning."""
    found, epochs = curves(measure), MEASURED["epochs"]
    axes.axhline(found.pop("in context").mean(), color="0.3", linestyle="dashed", label="in context")
    for colour, (arm, rows) in enumerate(found.items()):
        how, _, rate = arm.split()
        axes.plot(epochs, rows.mean(0), "os"[colour] + "-", color=f"C{colour}", label=f"{NAMES[how]}, rate {rate}")
        axes.fill_between(epochs, rows.min(0), rows.max(0), color=f"C{colour}", alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale=scale, xlabel="epochs of fine-tuning", ylabel=label)
    axes.set_xticks(epochs, [str(epoch) for epoch in epochs])
    axes.minorticks_off()
    return axes


plt.style.use("insitu.style")
figure = plt.figure(figsize=(8, 3.8))
left, right = figure.subplots(1, 2)
plot(left, "Sen", "order sensitivity Sen", "log").set_title("Spread of the answers over orders")
plot(right, "KL from the start", "divergence from the start (nats)", "linear").set_title("Distance travelled")
figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

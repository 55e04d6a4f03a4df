"""
Order matters in context, and not to full-batch descent
=======================================================

A language model answers after eight demonstrations, or after gradient descent on them, in several orders; the spread
of its answers over orders is compared. If in-context learning were descent, all points would lie at one; full-batch
descent lies ten thousand times lower, and small batches do not (stored records of SmolLM2; :doc:`Shen et al., 2024
</papers/shen2024>`, section 4).
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

# Somewhere above the place where this runs.
RESULTS = next(
    folder / "results/quick-lm" for folder in (Path().resolve() / "_").parents if (folder / "results").is_dir()
)
RATIOS = {
    "Sen(GD) / Sen(ICL)": "full batch",
    "Sen(sgd4) / Sen(ICL)": "batches of 4",
    "Sen(sgd2) / Sen(ICL)": "batches of 2",
    "Sen(sgd1) / Sen(ICL)": "batches of 1",
    "Sen(adam) / Sen(ICL)": "full batch, Adam",
}


def checks(seed: int) -> dict[str, dict[str, float]]:
    """The stored estimates of one seed by their names."""
    records = json.loads((RESULTS / f"seed-{seed}.json").read_text(encoding="utf-8"))
    return {check["quantity"]: check for record in records for check in record["checks"]}


def plot(axes: Axes) -> Axes:
    """A row for each kind of training, a point for each seed; intervals of 99 % where they stay above zero."""
    for seed in (0, 1, 2):
        found = checks(seed)
        for row, name in enumerate(name for name in RATIOS if name in found):
            value, low, high = (float(found[name][key]) for key in ("value", "low", "high"))
            height = row + 0.18 * (seed - 1)
            axes.plot([max(low, 1e-7), high], [height, height], color=f"C{seed}", linewidth=1)
            axes.plot(value, height, "osD"[seed], color=f"C{seed}", label=f"seed {seed}" if row == 0 else None)
    shown = [text for name, text in RATIOS.items() if name in checks(0)]
    axes.axvspan(1 / 5, 1 / 3, color="C4", alpha=0.25, label="the paper, larger models")
    axes.axvline(1, color="0.4", linestyle="dashed", label="as sensitive as in-context learning")
    axes.set_yticks(range(len(shown)), shown)
    axes.set(xscale="log", xlim=(1e-6, 30), xlabel="spread over orders, relative to that of in-context learning")
    axes.set_title("Spread over orders: fine-tuning beside in-context learning")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), ncols=3)
    return axes


plt.style.use("insitu.style")
plot(plt.figure().subplots())
plt.show()

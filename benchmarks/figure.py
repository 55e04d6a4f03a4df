"""Cost against size, the library's way and the common way."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.timing import Row

__all__ = ["draw"]

AXES = {"prefixes": "prompts", "pools": "functions in the pool", "iterates": "prompts", "attention": "context tokens"}


def draw(rows: Sequence[Row], path: Path) -> None:
    """One panel for every family whose cost is a function of a size; solid is ours, dashed the common way."""
    families = [name for name in AXES if any(row.family == name for row in rows)]
    if not families:
        return
    figure = Figure(figsize=(4.2 * len(families), 3.6), layout="constrained")
    for axes, family in zip(figure.subplots(1, len(families), squeeze=False)[0], families, strict=True):
        chosen = sorted((row for row in rows if row.family == family), key=lambda row: (row.work, row.size))
        for index, (work, group) in enumerate(groupby(chosen, key=lambda row: row.work)):
            measured = list(group)
            sizes = [row.size for row in measured]
            axes.loglog(sizes, [row.ours for row in measured], "o-", color=f"C{index}", label=work)
            axes.loglog(sizes, [row.common for row in measured], "o--", color=f"C{index}")
        axes.set(title=family, xlabel=AXES[family], ylabel="CPU seconds")
        axes.legend(fontsize="x-small", title="dashed: the common way", title_fontsize="x-small")
    figure.savefig(path)

"""Transformers trained under both masks: tables 1, 6 and 7 and figures 3 and 6."""

import functools
from collections.abc import Callable

from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, Study, line
from insitu.metrics import Estimate
from insitu.papers.ding2024.trained import (
    TASKS,
    TRAINED_CELLS,
    TRAINED_ON_FEW,
    Cell,
    Transformers,
    alone_changes,
    cells_of,
    data_cells_of,
    few_errors,
    held_out_errors,
    hours_of,
    probe_errors,
)
from insitu.training import Recipe

__all__ = ["CLAIMS"]

# The quantities that measurements estimate and rules decide.
PERMUTED_GAP = "causal minus prefix, both permuted"
MIDDLE_GAP = "causal minus prefix, middle number of batches"
MIDDLE_RATIO_GROWTH = "causal over prefix, middle number of batches minus fewest"
PREFIX_RATIO = "permuted over plain, prefix"
CAUSAL_GAIN = "plain minus permuted, causal"
# A network whose queries see each other solves another task than the paper's.
LONE_QUERY_CHANGE = "change of an answer where its query stands alone, largest, relative"
FEWEST_RATIO = "causal over prefix, fewest batches"

Masks = tuple[str, str]
SHARING = {True: "shared", False: "separate"}
BOTH: Masks = ("prefix", "causal")
# Shares of the training context at test: with as many examples as dimensions, and with more.
LEAST = (0.4,)
SHORTER = (0.6, 0.8)
# Test errors of the paper, classes in per cent: prefix, causal.
ORDERS = ("in one order", "permuted at every step")
PRINTED = {
    ("linear", True, True): "8.6e-3, 1.9e-1",
    ("linear", True, False): "6.7e-3, 5.0e-2",
    ("linear", False, True): "7.6e-3, 4.4e-2",
    ("linear", False, False): "2.5e-3, 1.6e-2",
    ("sigmoid", True, True): "1.5e-4, 2.7e-3",
    ("sigmoid", True, False): "1.5e-4, 1.9e-3",
    ("sigmoid", False, True): "1.7e-4, 2.5e-3",
    ("sigmoid", False, False): "9.0e-5, 2.9e-3",
    ("classes", True, True): "24.1, 27.0",
    ("classes", True, False): "24.5, 30.5",
    ("classes", False, True): "26.7, 30.4",
    ("classes", False, False): "27.6, 32.1",
}
# The same with 16, 24 and 32 of 40 examples, for shared layers with the context loss and separate ones without.
SHORT_PRINTED = {
    ("linear", True, 0.4): "1.01, 1.76",
    ("linear", True, 0.6): "1.4e-1, 7.0e-1",
    ("linear", True, 0.8): "2.4e-2, 3.1e-1",
    ("linear", False, 0.4): "0.97, 1.12",
    ("linear", False, 0.6): "1.0e-1, 1.3e-1",
    ("linear", False, 0.8): "9.5e-3, 4.0e-2",
    ("sigmoid", True, 0.4): "2.1e-2, 2.7e-2",
    ("sigmoid", True, 0.6): "2.0e-3, 1.0e-2",
    ("sigmoid", True, 0.8): "4.7e-4, 5.0e-3",
    ("sigmoid", False, 0.4): "1.9e-2, 3.2e-2",
    ("sigmoid", False, 0.6): "1.7e-3, 1.0e-2",
    ("sigmoid", False, 0.8): "3.4e-4, 5.7e-3",
    ("classes", True, 0.4): "42.8, 43.3",
    ("classes", True, 0.6): "33.4, 35.9",
    ("classes", True, 0.8): "32.4, 34.6",
    ("classes", False, 0.4): "42.9, 46.6",
    ("classes", False, 0.6): "37.1, 41.2",
    ("classes", False, 0.8): "36.2, 37.3",
}


def cell_name(task: str, shared: bool, quiet: bool) -> str:
    return f"{task}, {SHARING[shared]}" + (", context loss" if quiet else "")


def cell_at_share(task: str, shared: bool, share: float) -> str:
    return f"{task}, {SHARING[shared]}, {share:g} of the context"


def prefix_lead(cell: str) -> str:
    return f"causal minus prefix, {cell}"


def last_ratio(task: str) -> str:
    return f"causal over prefix after the last layer, {task}"


def ratio_growth(task: str) -> str:
    return f"causal over prefix, last layer minus first, {task}"


def cell_of(run: Run, task: str, shared: bool, mask: str, quiet: bool) -> Cell:
    return Cell(task, shared, mask, quiet, batches=run.setting.batches)


def every_cell(run: Run, *, masks: Masks = BOTH) -> Measurement:
    """The causal network's error minus the prefix network's on the same prompts, in every cell."""
    estimates, notes, means = {}, [], {}
    alone = [alone_changes(run, cell_of(run, *cell[:2], mask, cell[2])) for cell in PRINTED for mask in BOTH]
    estimates[LONE_QUERY_CHANGE] = Estimate(max(alone))
    for task, shared, quiet in PRINTED:
        prefix, causal = (held_out_errors(run, cell_of(run, task, shared, m, quiet), 1.0) for m in masks)
        name = cell_name(task, shared, quiet)
        estimates[prefix_lead(name)] = Estimate.mean(causal - prefix)
        means[task, shared, quiet] = prefix.mean().item(), causal.mean().item()
        notes.append(f"{name}: {prefix.mean().item():.3g}, {causal.mean().item():.3g}")
    panels = []
    for task in TASKS:
        cells = [key for key in means if key[0] == task]
        lines = [
            line(mask, range(len(cells)), [means[key][place] for key in cells], look="points", colour=place)
            for place, mask in enumerate(BOTH)
        ]
        names = tuple(cell_name(*key).removeprefix(f"{task}, ") for key in cells)
        kinds = "weights of the layers, loss"
        panels.append(Panel(kinds, "error on queries", tuple(lines), title=task, y_scale="log", x_names=names))
    figure = Figure(
        tuple(panels),
        "Error of trained transformers on held-out prompts: layers that share their weights or not, trained with or "
        "without a loss on context outputs.",
        "In every column the point of the causal mask lies above that of the prefix mask.",
    )
    return Measurement(estimates, figure, ("Errors, prefix and causal: " + "; ".join(notes) + ".",))


def shorter_contexts(run: Run, *, masks: Masks = BOTH, shares: tuple[float, ...] = SHORTER) -> Measurement:
    """The same difference with fewer examples at test than in training, for the paper's main models."""
    setting: Transformers = run.setting
    estimates, panels, ahead = {}, [], []
    for task in TASKS:
        lines = []
        for shared in (True, False):
            curves: dict[str, list[float]] = {mask: [] for mask in masks}
            for share in (*shares, 1.0):
                errors = {m: held_out_errors(run, cell_of(run, task, shared, m, shared), share) for m in masks}
                if share < 1:
                    name = cell_at_share(task, shared, share)
                    estimates[prefix_lead(name)] = Estimate.mean(errors[masks[1]] - errors[masks[0]])
                    ahead.append(f"{name}: {(errors[masks[0]] < errors[masks[1]]).double().mean().item():.2f}")
                for mask in masks:
                    curves[mask].append(errors[mask].mean().item())
            counts = [round(share * setting.points) for share in (*shares, 1.0)]
            lines += [
                line(f"{mask}, {SHARING[shared]}", counts, curves[mask], colour=2 * shared + (mask == "causal"))
                for mask in masks
            ]
        panels.append(Panel("examples at test", "error on queries", tuple(lines), title=task, y_scale="log"))
    figure = Figure(
        tuple(panels),
        f"Transformers trained on {setting.points} examples and tested on fewer.",
        "Errors fall with the number of examples; those under the prefix mask lie lower.",
    )
    return Measurement(estimates, figure, ("Share of prompts on which prefix is ahead: " + "; ".join(ahead) + ".",))


def layer_by_layer(run: Run, *, masks: Masks = BOTH) -> Measurement:
    """Errors of linear probes on the shared models: the ratio of the masks after the first layer and after the last."""
    estimates, panels = {}, []
    for task in TASKS:
        prefix, causal = (probe_errors(run, cell_of(run, task, True, m, True)) for m in masks)
        first, last = (Estimate.ratio(causal[layer], prefix[layer]) for layer in (1, -1))
        estimates[last_ratio(task)] = last
        error = (first.error**2 + last.error**2) ** 0.5
        estimates[ratio_growth(task)] = Estimate(last.value - first.value, error, len(prefix[0]))
        lines = [
            line(mask, range(len(errors)), errors.mean(1), colour=place)
            for place, (mask, errors) in enumerate(zip(BOTH, (prefix, causal), strict=True))
        ]
        panels.append(Panel("layer", "error of a linear probe", tuple(lines), title=task, y_scale="log"))
    figure = Figure(
        tuple(panels),
        "Least-squares probes on the query states of the shared transformers, fitted on other prompts.",
        "The curves start together; the prefix curve falls further.",
    )
    return Measurement(estimates, figure)


def fewer_batches(run: Run, *, masks: Masks = BOTH) -> Measurement:
    """The same difference for networks trained on few batches, many times each."""
    setting: Transformers = run.setting
    estimates: dict[str, Estimate] = {}
    curves: dict[str, list[float]] = {mask: [] for mask in masks}
    middle = len(setting.sizes) // 2
    for place, size in enumerate(setting.sizes):
        prefix, causal = (few_errors(run, size, mask) for mask in masks)
        for mask, errors in zip(masks, (prefix, causal), strict=True):
            curves[mask].append(errors.mean().item())
        ratio = Estimate.ratio(causal, prefix)
        if place == 0:
            estimates[FEWEST_RATIO] = ratio
        if place == middle:
            estimates[MIDDLE_GAP] = Estimate.mean(causal - prefix)
            fewest = estimates[FEWEST_RATIO]
            error = (ratio.error**2 + fewest.error**2) ** 0.5
            estimates[MIDDLE_RATIO_GROWTH] = Estimate(ratio.value - fewest.value, error, len(prefix))
    lines = tuple(line(mask, setting.sizes, curves[mask], colour=place) for place, mask in enumerate(masks))
    figure = Figure(
        (Panel("different training batches", "error on queries", lines, x_scale="log", y_scale="log"),),
        f"Shared transformers on linear regression after {setting.recipe.steps} steps on a fixed set of batches.",
        "Both fall as there are more batches; the prefix mask falls earlier.",
    )
    return Measurement(estimates, figure)


def new_orders(run: Run, *, permuted: Callable[[bool], bool] = bool) -> Measurement:
    """Separate layers on the largest fixed set: the error without permutations at every step minus that with them."""
    most = run.setting.sizes[-1]

    def error(mask: str, new: bool) -> Tensor:
        return held_out_errors(run, Cell("linear", False, mask, False, most, permuted(new)), 1.0)

    gain = error("causal", False) - error("causal", True)
    estimates = {
        CAUSAL_GAIN: Estimate.mean(gain),
        PREFIX_RATIO: Estimate.ratio(error("prefix", True), error("prefix", False)),
        PERMUTED_GAP: Estimate.mean(error("causal", True) - error("prefix", True)),
    }
    lines = tuple(
        line(mask, (0, 1), [error(mask, new).mean().item() for new in (False, True)], colour=place)
        for place, mask in enumerate(BOTH)
    )
    figure = Figure(
        (Panel("examples of a batch", "error on queries", lines, y_scale="log", x_names=ORDERS),),
        f"Separate layers on {most} batches of linear regression, with and without permuted examples at every step.",
        "The causal error falls with permutations and stays above the prefix error.",
    )
    return Measurement(estimates, figure)


# As many examples per dimension as in the paper, in training and in the shorter tests.
QUICK = Transformers(
    dim=4,
    points=10,
    queries=5,
    width=32,
    layers=3,
    heads=2,
    batch=32,
    recipe=Recipe(steps=1500, rate=3e-3, warmup=0.1, decay="cosine", clip=1.0),
    batches=0,
    prompts=4096,
    sizes=(4, 16, 64),
)
FULL = Transformers(
    dim=16,
    points=40,
    queries=20,
    width=128,
    layers=24,
    heads=2,
    batch=64,
    recipe=Recipe(steps=100_000, rate=1e-4, warmup=0.2, decay="cosine"),
    batches=1000,
    prompts=4096,
    head_width=32,
    positions=True,
    scores="distance",
    norm="stream",
    sizes=(10, 30, 100, 300, 1000),
)
SMALLER = (
    "d = 4 and 10 examples in place of 16 and 40, 3 layers of width 32 in place of 24 of width 128, 1,500 steps on "
    "fresh prompts in place of 100,000 on a fixed set."
)


def shorter_rules(shares: tuple[float, ...]) -> tuple[Rule, ...]:
    """One order for every task, sharing and share."""
    return tuple(
        Rule(prefix_lead(cell_at_share(task, shared, share)), low=0.0, printed=f"errors {errors}")
        for (task, shared, share), errors in SHORT_PRINTED.items()
        if share in shares
    )


def claim(
    name: str,
    statement: str,
    source: str,
    rules: tuple[Rule, ...],
    measure: Callable[..., Measurement],
    *,
    quick_seconds: float,
    full_hours: float,
    study: Study = TRAINED_CELLS,
) -> Claim:
    return Claim(
        id=f"ding2024.{name}",
        statement=statement,
        source=source,
        rules=rules,
        measure=measure,
        quick=QUICK,
        full=FULL,
        quick_seconds=quick_seconds,
        full_hours=full_hours,
        reduced=SMALLER,
        study=study,
    )


CLAIMS = (
    claim(
        "prefix-beats-causal-after-training",
        "Trained softmax transformers have a smaller test error under the prefix mask than under the causal mask: on "
        "linear regression, sigmoid regression and classification into three classes, with shared and separate "
        "layers, with and without a loss on context outputs.",
        "Tables 1 and 3, section 5.2",
        (
            *(
                Rule(prefix_lead(cell_name(*cell)), low=0.0, printed=f"errors {errors}")
                for cell, errors in PRINTED.items()
            ),
            Rule(LONE_QUERY_CHANGE, high=1e-3),
        ),
        every_cell,
        quick_seconds=180,
        full_hours=hours_of(FULL, cells_of(FULL)),
    ),
    claim(
        "prefix-beats-causal-on-shorter-prompts",
        "Prefix stays ahead when test prompts hold 60 % or 80 % of the training examples, although under the causal "
        "mask every position was trained with as many examples as precede it.",
        "Table 6, appendix E.4",
        shorter_rules(SHORTER),
        shorter_contexts,
        quick_seconds=14,
        full_hours=0.03,
    ),
    claim(
        "prefix-beats-causal-down-to-the-dimension",
        "Prefix stays ahead when test prompts hold 40 % of the training examples, as many as the inputs have "
        "dimensions.",
        "Table 6, appendix E.4",
        shorter_rules(LEAST),
        functools.partial(shorter_contexts, shares=LEAST),
        quick_seconds=7.4,
        full_hours=0.02,
    ),
    claim(
        "causal-layers-flatten",
        "The errors of linear probes fall alike under both masks in the first layers. In later layers the causal "
        "error flattens, so that the masks differ more after the last layer than after the first.",
        "Figure 3",
        tuple(
            rule
            for task in TASKS
            for rule in (
                Rule(last_ratio(task), low=1.0),
                Rule(ratio_growth(task), low=0.0),
            )
        ),
        layer_by_layer,
        quick_seconds=6.6,
        full_hours=0.2,
    ),
    claim(
        "prefix-needs-less-data",
        "On a fixed set of few training batches, networks under both masks memorise. With more batches prefix is "
        "ahead, and by a larger factor than with the fewest.",
        "Figure 6, appendix E.3",
        (
            Rule(MIDDLE_GAP, low=0.0),
            Rule(MIDDLE_RATIO_GROWTH, low=0.0),
        ),
        fewer_batches,
        quick_seconds=73,
        full_hours=hours_of(FULL, data_cells_of(FULL)),
        study=TRAINED_ON_FEW,
    ),
    claim(
        "new-orders-help-causal",
        "Permuting the examples of a fixed training set at every step lowers the error under the causal mask and "
        "hardly changes it under the prefix mask. Prefix stays ahead.",
        "Table 7, appendix E.5",
        (
            Rule(CAUSAL_GAIN, low=0.0, printed="1.6e-2 - 1.1e-2"),
            Rule(PREFIX_RATIO, low=0.8, high=1.25, printed="1.04"),
            Rule(PERMUTED_GAP, low=0.0, printed="1.1e-2 - 2.6e-3"),
        ),
        new_orders,
        quick_seconds=2.1,
        full_hours=0.02,
        study=TRAINED_ON_FEW,
    ),
)

"""Prompts that tell apart learners which agree on ordinary ones.

On well-conditioned noise-free prompts most learners of linear functions answer alike. They part where the examples
are fewer than the dimensions, where the labels are noisy, where the inputs have another scale or covariance, in the
order of the examples, and outside their span. A quarter of the prompts of every diagnostic comes twice, so that noise
of the answers can be measured.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from insitu.errors import InputError, require_count
from insitu.identification.evidence import INSIDE, Kind
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.tasks import (
    Autoregression,
    FunctionTask,
    Gaussian,
    LinearClassification,
    LinearRegression,
    Task,
    sequence_prompt,
)

__all__ = ["TELLS", "Diagnosed", "Plan", "diagnostic_prompts"]

PLAIN, NOISY, VERY_NOISY = "plain", "noisy labels", "very noisy labels"
SKEWED, LARGE, SMALL = "skewed covariance", "inputs scaled up", "inputs scaled down"
PERMUTED, DUPLICATED, OUTLIER, OUTSIDE = (
    "permuted order",
    "duplicated points",
    "one outlier",
    "queries outside the span",
)
ADDED, TURNED = "labels added", "rotated inputs"
ROTATED, ORTHOGONAL = "rotations", "orthogonal matrices"

TELLS = {
    INSIDE: "what the model does where it was trained",
    PLAIN: "the ordinary case; short contexts tell how a learner fills in what the examples leave open",
    NOISY: "shrinkage: ridge and early stopping from least squares",
    VERY_NOISY: "shrinkage that does not adapt to the noise from one that does",
    SKEWED: "one step from many, first-order from second-order, and preconditioners",
    LARGE: "a fixed rate, penalty or bandwidth from a normalised one; the prompts with noisy labels, inputs scaled",
    SMALL: "a fixed rate, penalty or bandwidth from a normalised one; the prompts with noisy labels, inputs scaled",
    PERMUTED: "learners that read the examples in order from those that do not; every prompt comes in two orders",
    DUPLICATED: "averages over distinct examples from sums over all; half of the examples are copies",
    OUTLIER: "what one wrong label does",
    OUTSIDE: "what is answered in directions that no example has; some queries differ in these alone",
    ADDED: "learners that are linear in the labels; the inputs are those of the prompts with noisy labels",
    TURNED: "learners that prefer some directions; the prompts with noisy labels in other coordinates",
    ROTATED: "sequences whose matrices commute",
    ORTHOGONAL: "sequences whose matrices do not",
}
NOISE, LOUD, OUTLYING = 0.25, 1.0, 10.0
# The largest eigenvalue of the skewed covariance over the smallest.
SKEW = 9.0
UP, DOWN = 1.5, 0.5


@final
@dataclass(frozen=True)
class Plan:
    """Which diagnostic prompts to draw.

    Args:
        dim: The dimension of an input.
        points: The context lengths; half the dimension, the dimension and four times it where none is given.
            The longest gets all diagnostics, the others the plain and the noisy one.
        count: Prompts of each diagnostic at each length.
        kind: Regression, classes or sequences.
        out: The number of outputs or classes; of a sequence always the dimension.
        task: What the model was trained on, if that is known: it is asked there first, and the verdict is about that.
        trained: The context lengths that it was trained at.

    Raises:
        InputError: If a number is too small, or sequences are asked for with more outputs than dimensions.
    """

    dim: int
    points: tuple[int, ...] = ()
    count: int = 100
    kind: Kind = "regression"
    out: int = 1
    task: Task | None = None
    trained: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_count("Plan", "dim", self.dim, least=1)
        require_count("Plan", "out", self.out, least=2 if self.kind == "classes" else 1)
        require_count("Plan", "count", self.count, least=8)
        for points in self.points:
            require_count("Plan", "points", points, least=1)
        if self.kind == "sequence" and self.out not in (1, self.dim):
            raise InputError(f"Plan: a sequence has as many outputs as dimensions, {self.dim}; got out={self.out}.")

    @property
    def lengths(self) -> list[int]:
        """The context lengths, the longest first."""
        chosen = self.points or (max(1, self.dim // 2), self.dim, 4 * self.dim)
        return sorted(set(chosen), reverse=True)


@final
@dataclass(frozen=True, eq=False)
class Diagnosed:
    """Diagnostic prompts of one context length.

    Args:
        prompt: The prompts.
        names: The diagnostic of every prompt.
    """

    prompt: Prompt
    names: tuple[str, ...]


def diagnostic_prompts(plan: Plan, seed: Seed) -> list[Diagnosed]:
    """Draw the prompts of a plan, one set for each context length, the longest first.

    Example:
        >>> [found.prompt for found in diagnostic_prompts(Plan(dim=4, count=8), Seed(0))]
        [Prompt(batch=96, points=16, dim=4, out=1, queries=6), Prompt(batch=16, points=4, dim=4, out=1, queries=6),
         Prompt(batch=16, points=2, dim=4, out=1, queries=6)]
    """
    draw = sequences if plan.kind == "sequence" else functions
    found = {points: draw(plan, seed / points, points, all_of_them=i == 0) for i, points in enumerate(plan.lengths)}
    for points in plan.trained if plan.task is not None else ():
        found[points] = {INSIDE: as_trained(plan, seed / points / INSIDE, points), **found.get(points, {})}
    return [joined(found[points]) for points in sorted(found, reverse=True)]


def as_trained(plan: Plan, seed: Seed, points: int) -> Prompt:
    """Prompts of the task that the model was trained on, more than of any diagnostic."""
    assert plan.task is not None
    repeats = plan.count // 2
    prompt = plan.task.sample(seed, 2 * plan.count - repeats, points, plan.dim + 2).prompt
    return with_repeats(prompt, repeats)


def joined(parts: dict[str, Prompt]) -> Diagnosed:
    prompts = parts.values()
    whole = Prompt(*(torch.cat([getattr(p, name) for p in prompts]) for name in ("xs", "ys", "queries")))
    return Diagnosed(whole, tuple(name for name, prompt in parts.items() for _ in range(prompt.batch)))


def functions(plan: Plan, seed: Seed, points: int, *, all_of_them: bool) -> dict[str, Prompt]:
    """Examples of linear functions, or of classes by linear scores."""

    def task(noise: float, law: Gaussian | None = None) -> FunctionTask:
        law = law or Gaussian(plan.dim)
        if plan.kind == "classes":
            return LinearClassification(law, out=plan.out, flip=min(noise / 2, 1.0))
        return LinearRegression(law, noise=noise, out=plan.out)

    repeats = plan.count // 4

    def drawn(name: str, source: FunctionTask, change: Callable[[Prompt, Seed], Prompt] | None = None) -> Prompt:
        prompt = source.sample(seed / name, plan.count - repeats, points, plan.dim + 2).prompt
        return with_repeats(change(prompt, seed / name / "change") if change else prompt, repeats)

    found = {PLAIN: drawn(PLAIN, task(0.0)), NOISY: drawn(NOISY, task(NOISE))}
    if not all_of_them:
        return found
    base = found[NOISY]
    distinct = Prompt(*(t[: plan.count - repeats] for t in (base.xs, base.ys, base.queries)))
    found |= {
        VERY_NOISY: drawn(VERY_NOISY, task(LOUD)),
        LARGE: Prompt(UP * base.xs, base.ys, UP * base.queries),
        SMALL: Prompt(DOWN * base.xs, base.ys, DOWN * base.queries),
        PERMUTED: drawn(PERMUTED, task(NOISE), in_two_orders),
        DUPLICATED: drawn(DUPLICATED, task(NOISE), with_duplicates),
        OUTLIER: drawn(OUTLIER, task(NOISE), with_an_outlier),
    }
    if plan.kind != "classes":
        others = task(NOISE).sample(seed / ADDED, distinct.batch, points, 1).prompt.ys
        found[ADDED] = with_repeats(with_added_labels(distinct, others), repeats)
    if plan.dim > 1:
        found |= {
            SKEWED: drawn(SKEWED, task(NOISE, Gaussian(plan.dim, skewed_spectrum(plan.dim)))),
            OUTSIDE: drawn(OUTSIDE, task(NOISE), within_a_subspace),
            TURNED: with_repeats(rotated(distinct, seed / TURNED), repeats),
        }
    return found


def sequences(plan: Plan, seed: Seed, points: int, *, all_of_them: bool) -> dict[str, Prompt]:
    """Noiseless sequences of orthogonal matrices."""
    laws = {ORTHOGONAL: Autoregression(plan.dim, "haar")}
    if plan.dim % 2 == 0:
        laws[ROTATED] = Autoregression(plan.dim, "rotations")
    distinct = plan.count - plan.count // 4
    found = {name: law.sample(seed / name, distinct, points).prompt for name, law in laws.items()}
    if all_of_them:
        for name, factor in ((LARGE, UP), (SMALL, DOWN)):
            p = laws[ORTHOGONAL].sample(seed / name, distinct, points).prompt
            found[name] = sequence_prompt(factor * torch.cat([p.xs, p.queries], dim=1))
    return {name: with_repeats(prompt, plan.count // 4) for name, prompt in found.items()}


def with_repeats(prompt: Prompt, count: int) -> Prompt:
    """The prompts, and the first of them once more."""
    return Prompt(*(torch.cat([t, t[:count]]) for t in (prompt.xs, prompt.ys, prompt.queries)))


def skewed_spectrum(dim: int) -> tuple[float, ...]:
    """Eigenvalues spaced by equal factors, with mean one."""
    values = torch.logspace(0, 1, dim, base=SKEW, dtype=torch.float64)
    return tuple((values / values.mean()).tolist())


def in_two_orders(prompt: Prompt, seed: Seed) -> Prompt:
    """The first half of the prompts, then the same with their examples shuffled."""
    half = (prompt.batch + 1) // 2
    xs, ys, queries = prompt.xs[:half], prompt.ys[:half], prompt.queries[:half]
    order = seed.uniform(half, prompt.points).argsort(dim=1)[..., None]
    shuffled = (xs.take_along_dim(order, dim=1), ys.take_along_dim(order, dim=1), queries)
    pairs = zip((xs, ys, queries), shuffled, strict=True)
    return Prompt(*(torch.cat(pair)[: prompt.batch] for pair in pairs))


def with_duplicates(prompt: Prompt, seed: Seed) -> Prompt:
    """The second half of the examples are copies of the first ones."""
    half = (prompt.points + 1) // 2
    index = torch.arange(prompt.points) % half
    return prompt.reordered(index)


def with_an_outlier(prompt: Prompt, seed: Seed) -> Prompt:
    """One example with a label far off; of classes one with a wrong class."""
    rows, places = torch.arange(prompt.batch), seed.integers(prompt.points, prompt.batch)
    ys = prompt.ys.clone()
    if is_one_hot(ys):
        ys[rows, places] = ys[rows, places].roll(1, dims=-1)
    else:
        ys[rows, places] += OUTLYING
    return Prompt(prompt.xs, ys, prompt.queries)


def is_one_hot(ys: Tensor) -> bool:
    return ys.shape[-1] > 1 and bool(((ys == 0) | (ys == 1)).all())


def within_a_subspace(prompt: Prompt, seed: Seed) -> Prompt:
    """Examples within half of the dimensions, a subspace of its own for each prompt; queries anywhere.

    The second half of the queries are the parts of the first ones that lie in the subspace. Labels stay those of the
    whole inputs, so that their other half acts as noise.
    """
    basis = torch.linalg.qr(seed.normal(prompt.batch, prompt.dim, prompt.dim // 2)).Q
    across = basis @ basis.mT
    half = prompt.queries.shape[1] // 2
    queries = torch.cat([prompt.queries[:, :-half], prompt.queries[:, :half] @ across], dim=1)
    return Prompt(prompt.xs @ across, prompt.ys, queries)


def with_added_labels(prompt: Prompt, others: Tensor) -> Prompt:
    """The first half of the prompts with other labels, then the same with the sum of both labels."""
    half = (prompt.batch + 1) // 2
    xs, queries = prompt.xs[:half], prompt.queries[:half]
    ys = torch.cat([others[:half], prompt.ys[:half] + others[:half]])
    return Prompt(
        torch.cat([xs, xs])[: prompt.batch], ys[: prompt.batch], torch.cat([queries, queries])[: prompt.batch]
    )


def rotated(prompt: Prompt, seed: Seed) -> Prompt:
    """Inputs in other coordinates, by an orthogonal matrix for each prompt."""
    turns = torch.linalg.qr(seed.normal(prompt.batch, prompt.dim, prompt.dim)).Q
    return Prompt(prompt.xs @ turns, prompt.ys, prompt.queries @ turns)

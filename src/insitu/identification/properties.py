r"""What answers show before any learner is named: symmetries, from prompts that differ in one thing.

Whether two prompts belong together is read off the prompts, not off their names: equal labels and inputs that differ
by a factor, or by a rotation; equal examples in another order; equal inputs whose labels add up; equal examples and
queries that differ by something orthogonal to all of them. For each pair the discrepancy

.. math:: \frac{|f_1 - f_2|^2}{|f_1|^2 + |f_2|^2}

is 0 for equal answers and about 1 for unrelated ones; for labels that add up it is the same with :math:`f_1 + f_2`
against :math:`f_3`. Noise of the answers is taken off.
"""

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from scipy import special
from torch import Tensor

from insitu.identification.evidence import Evidence, LengthBlock
from insitu.identification.scoring import MARGIN, Noise
from insitu.metrics.estimate import CONFIDENCE

__all__ = ["Property", "properties"]

# Relative differences of inputs or labels that are none.
SAME = 1e-6
# A discrepancy that rounding may leave; single precision leaves about 1e-13.
FLOOR = 1e-10
# Pairs of one kind that are compared at most, and below which nothing is said.
MOST, LEAST = 400, 4


@final
@dataclass(frozen=True)
class Property:
    """A symmetry of the answers.

    Args:
        name: What would hold.
        discrepancy: How far it is from holding: 0 for exactly, 1 for not at all.
        low: The lower end of the interval, at 99 %.
        high: The upper end.
        pairs: How many pairs of prompts were compared.
    """

    name: str
    discrepancy: float
    low: float
    high: float
    pairs: int

    @property
    def holds(self) -> bool | None:
        """Whether it holds; none where noise does not tell."""
        if self.low > FLOOR:
            return False
        return True if self.high <= MARGIN else None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "holds": self.holds,
            "discrepancy": self.discrepancy,
            "low": self.low,
            "high": self.high,
            "pairs": self.pairs,
        }


def properties(whole: Evidence, noise: Noise) -> list[Property]:
    """All that the prompts allow to be said."""
    kinds: dict[str, Callable[[LengthBlock], Iterator[Compared]]] = {
        "linear in the labels": sums,
        "the same in any order of the examples": orders,
        "the same after a rotation of all inputs": rotations,
        "the same for inputs in another unit": scalings,
        "blind to what no example spans": off_span,
    }
    found = []
    for name, pairs in kinds.items():
        compared = [
            (*answers, noise.variance[block.group[row]].item())
            for block in whole.blocks
            for row, answers in itertools.islice(pairs(block), MOST)
        ]
        if len(compared) >= LEAST:
            found.append(judged(name, compared, noisy=bool(noise)))
    return found


Compared = tuple[int, tuple[Tensor, Tensor, int]]
"""A prompt, the two answers that are to be equal, and how many noisy answers went into their difference."""


def judged(name: str, compared: Sequence[tuple[Tensor, Tensor, int, float]], *, noisy: bool) -> Property:
    """The mean discrepancy, with Student's interval over pairs."""
    sizes = torch.stack([a.square().mean() + b.square().mean() for a, b, _, _ in compared])
    sizes = sizes.clamp(min=max(sizes.median().item() / 4, 1e-300))
    gaps = torch.stack([(a - b).square().mean() - count * v for a, b, count, v in compared])
    each = gaps / sizes
    half = float(special.stdtrit(len(each) - 1, (1 + CONFIDENCE) / 2)) * each.std().item() / len(each) ** 0.5
    mean = each.mean().item()
    low = mean - half if noisy else mean
    return Property(name, max(mean, 0.0), max(low, 0.0), max(mean + half, 0.0), len(each))


def groups(keys: Sequence[Hashable]) -> Iterator[list[int]]:
    """Prompts with equal keys, where there are several."""
    found: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return (rows for rows in found.values() if len(rows) > 1)


def bytes_of(values: Tensor) -> list[bytes]:
    """One key for every prompt; numbers that differ by rounding have equal ones."""
    return [row.numpy().tobytes() for row in values.flatten(1).float().contiguous()]


def near(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal but for rounding."""
    return bool((a - b).norm() <= SAME * (a.norm() + b.norm()))


def distinct(block: LengthBlock, rows: Sequence[int]) -> list[int]:
    """One of every set of copies."""
    first = {int(block.copies[row]): row for row in reversed(rows)}
    return sorted(first.values())


def scalings(block: LengthBlock) -> Iterator[Compared]:
    """Prompts with equal labels whose inputs differ by a factor."""
    p = block.view.prompt
    for i, j in with_equal_labels(block):
        factor = p.xs[j].norm() / p.xs[i].norm().clamp(min=1e-300)
        if abs(factor - 1) > SAME and near(p.xs[j], factor * p.xs[i]) and near(p.queries[j], factor * p.queries[i]):
            yield i, (block.answers[i], block.answers[j], 2)


def rotations(block: LengthBlock) -> Iterator[Compared]:
    """Prompts with equal labels whose inputs have equal products, but are others."""
    p = block.view.prompt
    for i, j in with_equal_labels(block):
        a, b = (torch.cat([p.xs[k], p.queries[k]]) for k in (i, j))
        if not near(a, b) and near(a @ a.mT, b @ b.mT):
            yield i, (block.answers[i], block.answers[j], 2)


def with_equal_labels(block: LengthBlock) -> Iterator[tuple[int, int]]:
    for rows in groups(bytes_of(block.view.prompt.ys)):
        yield from itertools.combinations(distinct(block, rows), 2)


def orders(block: LengthBlock) -> Iterator[Compared]:
    """Prompts with equal examples in another order."""
    p = block.view.prompt
    keys = zip(bytes_of(ranked(torch.cat([p.xs, p.ys], dim=-1))), bytes_of(p.queries), strict=True)
    for rows in groups(list(keys)):
        for i, j in itertools.combinations(distinct(block, rows), 2):
            yield i, (block.answers[i], block.answers[j], 2)


def ranked(examples: Tensor) -> Tensor:
    """The examples of every prompt in the order of their numbers, whichever are equal: whole numbers often are."""
    for number in reversed(range(examples.shape[-1])):
        order = examples[..., number].argsort(dim=1, stable=True)
        examples = examples.take_along_dim(order[..., None], dim=1)
    return examples


def sums(block: LengthBlock) -> Iterator[Compared]:
    """Three prompts with equal inputs, the labels of the third the sum of those of the others."""
    p = block.view.prompt
    keys = zip(bytes_of(p.xs), bytes_of(p.queries), strict=True)
    for rows in groups(list(keys)):
        for triple in itertools.combinations(distinct(block, rows), 3):
            for k in triple:
                i, j = (row for row in triple if row != k)
                if near(p.ys[i] + p.ys[j], p.ys[k]):
                    yield k, (block.answers[i] + block.answers[j], block.answers[k], 3)


def off_span(block: LengthBlock) -> Iterator[Compared]:
    """Two queries of a prompt that differ by something orthogonal to all of its examples."""
    p = block.view.prompt
    if bool(block.view.spectrum[1].all()) and p.points >= p.dim:
        return
    across = torch.linalg.pinv(p.xs) @ p.xs
    inside = p.queries @ across
    outside = (p.queries - inside).square().sum(-1)
    for row in range(p.batch):
        for a, b in itertools.combinations(range(p.queries.shape[1]), 2):
            apart = outside[row, [a, b]].amax() > 1e-6 * p.queries[row, [a, b]].square().sum()
            if apart and near(inside[row, a], inside[row, b]):
                yield row, (block.answers[row, a], block.answers[row, b], 2)

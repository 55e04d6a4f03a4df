"""Mixtures on held-out prompts: their parts with weights and intervals."""

import torch
from scipy import stats
from torch import Tensor

from insitu.identification.combinations import Blend
from insitu.identification.evidence import Evidence
from insitu.identification.interval import Interval, shortest
from insitu.identification.mixtures import CombinedProblem, MixtureFit
from insitu.identification.objective import Objective
from insitu.identification.result import Mixture, MixturePart
from insitu.identification.scoring import Noise, answers_of, scores
from insitu.metrics.estimate import CONFIDENCE
from insitu.seed import Seed

__all__ = ["determined", "scored_mixture"]

# How wide the interval of a weight may be.
WIDE = 0.3


def determined(mixture: Mixture) -> bool:
    """Whether all weights are: none may be zero, and their intervals are narrow."""
    return all(p.weight.high - p.weight.low <= WIDE and p.weight.low > 0 for p in mixture.parts)


def scored_mixture(fit: MixtureFit, objective: Objective, held: Evidence, noise: Noise, seed: Seed) -> Mixture | None:
    """A mixture on the held-out prompts; nothing where a weight lies outside of [0, 1] for sure."""
    lengths = [block.view.prompt.points for block in held.blocks]
    rows = fit.weights() if fit.combined.weights else shares(fit, objective)
    if any(w.high < 0 or w.low > 1 for row in rows for w in row):
        return None
    parts = [
        part_of(fit, k, dict(zip(lengths, (row[k] for row in rows * (len(lengths) // len(rows))), strict=True)))
        for k in range(len(fit.combined.atoms))
    ]
    blend = Blend(tuple(p.learner for p in parts), {n: tuple(p.by_length[n].value for p in parts) for n in lengths})
    (score,) = scores([(blend, fit.combined.size, blended(fit, held))], held, noise, seed)
    heaviest = sorted(parts, key=lambda part: -part.weight.value)
    return Mixture(tuple(heaviest), fit.combined.way, score)


def part_of(fit: MixtureFit, index: int, by_length: dict[int, Interval]) -> MixturePart:
    """One learner of a mixture; its weight is the mean over context lengths."""
    rows = list(by_length.values())
    mean = Interval("weight", *(sum(getattr(w, end) for w in rows) / len(rows) for end in ("value", "low", "high")))
    atom, numbers = fit.combined.atoms[index], fit.numbers()[index]
    # An interval with zero bears no digit at all, yet a learner of zero may be quite another one.
    values = tuple(
        n.value if n.low <= 0 <= n.high else shortest(n.value, n.low, n.high)
        for n in numbers
        if n.name != atom.family.whole
    )
    return MixturePart(atom.family.learner(atom.count, values), mean, tuple(numbers), by_length)


def blended(fit: MixtureFit, held: Evidence) -> list[Tensor]:
    """The answers of a combination to the held-out prompts."""
    each = [answers_of(atom.learner, held) for atom in fit.combined.atoms]
    if fit.combined.way == "by prompt":
        missed = [[b.missed(a) for b, a in zip(held.blocks, answers, strict=True)] for answers in each]
        nearer = [(a <= b)[:, None, None] for a, b in zip(*missed, strict=True)]
        return [torch.where(first, a, b) for first, a, b in zip(nearer, *each, strict=True)]
    rows = torch.tensor(fit.combined.weights, dtype=torch.float64).view(-1, len(each) - 1)
    full = torch.cat([rows, 1 - rows.sum(1, keepdim=True)], dim=1).expand(len(held.blocks), -1)
    return [torch.einsum("k,k...->...", w, torch.stack(a)) for w, *a in zip(full, *each, strict=True)]


def shares(fit: MixtureFit, objective: Objective) -> list[list[Interval]]:
    """How many prompts each of two learners answers, with its interval."""
    exact = CombinedProblem(objective)
    each = torch.stack([exact.answers(atom) for atom in fit.combined.atoms])
    errors = each.view(2, -1, objective.entries).square().sum(2)
    count = errors.shape[1]
    share = (errors[0] <= errors[1]).double().mean().item()
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * (max(share * (1 - share), 0.25 / count) / count) ** 0.5
    return [[Interval("weight", s, s - half, s + half) for s in (share, 1 - share)]]

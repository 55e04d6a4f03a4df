"""Mixtures on held-out prompts: their parts with weights and intervals."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from insitu.identification.combinations import Blend
from insitu.identification.evidence import Evidence
from insitu.identification.interval import Interval, shortest
from insitu.identification.mixtures import CombinedProblem, MixtureFit, with_others
from insitu.identification.objective import Objective
from insitu.identification.result import Mixture, MixturePart
from insitu.identification.scoring import EACH, Noise, Score, answers_of, scores
from insitu.metrics.estimate import CONFIDENCE
from insitu.seed import Seed

__all__ = ["determined", "scored_mixture", "with_intervals"]

# How wide the interval of a weight may be.
WIDE = 0.3
TINY = 1e-300


def determined(mixture: Mixture) -> bool:
    """Whether all weights are: none may be zero, and their intervals are narrow.

    A switch from prompt to prompt, which has a choice for every one of them, must be shown to leave nearly nothing.
    """
    narrow = all(p.weight.high - p.weight.low <= WIDE and p.weight.low > 0 for p in mixture.parts)
    return narrow and (mixture.way != "by prompt" or mixture.score.most <= EACH)


def scored_mixture(fit: MixtureFit, objective: Objective, held: Evidence, noise: Noise, seed: Seed) -> Mixture | None:
    """A mixture on the held-out prompts; nothing where a weight lies outside of [0, 1] for sure."""
    lengths = [block.view.prompt.points for block in held.blocks]
    rows = rows_of(fit, objective)
    if any(w.high < 0 or w.low > 1 for row in rows for w in row):
        return None
    parts = parts_of(fit, rows, lengths)
    blend = Blend(tuple(p.learner for p in parts), {n: tuple(p.by_length[n].value for p in parts) for n in lengths})
    answers, spreads = blended(fit, held, noise)
    (score,) = scores([(blend, fit.combined.size, answers)], held, noise, seed)
    doubt = held.per_diagnostic([spread / scale for spread, scale in zip(spreads, held.scales, strict=True)])
    return Mixture(heaviest_first(parts), fit.combined.way, less(score, doubt))


def with_intervals(mixture: Mixture, fit: MixtureFit, objective: Objective) -> Mixture:
    """The same mixture with intervals over all whole numbers that the answers do not refute."""
    wide, lengths = with_others(fit, objective), list(mixture.parts[0].by_length)
    return replace(mixture, parts=heaviest_first(parts_of(wide, rows_of(wide, objective), lengths)))


def heaviest_first(parts: Sequence[MixturePart]) -> tuple[MixturePart, ...]:
    """Parts in the order of their weights."""
    return tuple(sorted(parts, key=lambda part: -part.weight.value))


def rows_of(fit: MixtureFit, objective: Objective) -> list[list[Interval]]:
    """The weights of the learners; of a switch from prompt to prompt how many prompts each answers."""
    return fit.weights() if fit.combined.weights else shares(fit, objective)


def parts_of(fit: MixtureFit, rows: list[list[Interval]], lengths: Sequence[int]) -> list[MixturePart]:
    """The learners of a combination in its own order, with their weights for contexts of these lengths."""
    return [
        part_of(fit, k, dict(zip(lengths, (row[k] for row in rows * (len(lengths) // len(rows))), strict=True)))
        for k in range(len(fit.combined.atoms))
    ]


def part_of(fit: MixtureFit, index: int, by_length: dict[int, Interval]) -> MixturePart:
    """One learner of a mixture; its weight is the mean over context lengths."""
    rows = list(by_length.values())
    mean = Interval("weight", *(sum(getattr(w, end) for w in rows) / len(rows) for end in ("value", "low", "high")))
    atom = fit.combined.atoms[index]
    # Digits are borne by the intervals at these whole numbers. One with zero bears none at all, yet a learner of zero
    # may be quite another one.
    values = tuple(
        n.value if n.low <= 0 <= n.high else shortest(n.value, n.low, n.high)
        for n in fit.own_numbers()[index]
        if n.name != atom.family.whole
    )
    return MixturePart(atom.family.learner(atom.count, values), mean, tuple(fit.numbers()[index]), by_length)


def blended(fit: MixtureFit, held: Evidence, noise: Noise) -> tuple[list[Tensor], list[Tensor]]:
    """The answers of a combination to the held-out prompts, and how uncertain they are: the variance by prompt."""
    each = [answers_of(atom.learner, held) for atom in fit.combined.atoms]
    if fit.combined.way == "by prompt":
        blocks = zip(held.blocks, *each, strict=True)
        both = [switched(b.answers, one, other, noise.variance[b.group]) for b, one, other in blocks]
        return [answers for answers, _ in both], [spread for _, spread in both]
    rows = torch.tensor(fit.combined.weights, dtype=torch.float64).view(-1, len(each) - 1)
    full = torch.cat([rows, 1 - rows.sum(1, keepdim=True)], dim=1).expand(len(held.blocks), -1)
    answers = [torch.einsum("k,k...->...", w, torch.stack(a)) for w, *a in zip(full, *each, strict=True)]
    return answers, [a.new_zeros(len(a)) for a in answers]


def less(score: Score, doubt: Float[Tensor, " diagnostic"]) -> Score:
    """A score of which the doubt about each prompt's learner explains a part of every excess."""
    rows = zip(score.departures, doubt.tolist(), strict=True)
    found = [replace(d, excess=d.excess - e, least=d.least - e, most=d.most - e) for d, e in rows]
    return replace(score, departures=tuple(found))


def switched(
    answers: Float[Tensor, "batch query out"],
    one: Float[Tensor, "batch query out"],
    other: Float[Tensor, "batch query out"],
    variance: Float[Tensor, " batch"],
) -> tuple[Float[Tensor, "batch query out"], Float[Tensor, " batch"]]:
    """What is expected of a prompt's learner, one of two, from the queries that are not scored, and its variance.

    With the scored query's own noise the choice would explain some of it: any two learners would then do. A single
    query has no others.
    """
    farther = (one - answers).square().sum(2) - (other - answers).square().sum(2)
    queries = torch.arange(answers.shape[1])
    seen = (queries % 2 != queries[:, None] % 2) | (answers.shape[1] == 1)
    share = (farther @ seen.to(farther) / (2 * variance[:, None]).clamp(min=TINY)).sigmoid()[..., None]
    spread = share * (1 - share) * (one - other).square()
    return torch.lerp(one, other, share), spread.mean((1, 2))


def shares(fit: MixtureFit, objective: Objective) -> list[list[Interval]]:
    """How many prompts each of two learners answers, with its interval."""
    exact = CombinedProblem(objective)
    each = torch.stack([exact.answers(atom) for atom in fit.combined.atoms])
    errors = each.view(2, -1, objective.entries).square().sum(2)
    count = errors.shape[1]
    share = (errors[0] <= errors[1]).double().mean().item()
    half = float(special.ndtri((1 + CONFIDENCE) / 2)) * (max(share * (1 - share), 0.25 / count) / count) ** 0.5
    return [[Interval("weight", s, s - half, s + half) for s in (share, 1 - share)]]

"""Which learner a model's answers are: candidates fitted, then scored on held-out prompts, and no forced choice."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from scipy import stats
from torch import Tensor

from insitu.identification.evidence import Answered, Kind, Study, study
from insitu.identification.families import FAMILIES, DescentFamily, Family, LogisticFamily
from insitu.identification.fitting import Fit, Interval, Objective, Problem, find, rounded, tidied
from insitu.identification.preconditioners import STEPS, matrix_fits, rate_fits
from insitu.identification.scoring import Departure, Noise, Score, answers_of, noise_of, scores
from insitu.learners import Mean, Zero
from insitu.metrics.estimate import CONFIDENCE
from insitu.predictor import Predictor
from insitu.seed import Seed

__all__ = ["Candidate", "Identification", "Verdict", "identify"]

Verdict = Literal["indistinguishable", "closest", "none"]
# Prompts on which the search begins.
FEW = 240
# A candidate that leaves more than this share of the answers unexplained names nothing.
HALF = 0.5
# How many of the best get intervals for their numbers.
DETERMINED = 3
# How often a search tells what it is at.
STAGES = len(FAMILIES) + 2
# Fewer digits may raise the squared error by this factor.
WORSE = 1.001
# A direction this small, squared and relative to the answers, is rounding.
NEGLIGIBLE = 1e-12


@final
@dataclass(frozen=True, eq=False)
class Candidate:
    """A fitted candidate with its score.

    Args:
        score: Its distances on the held-out prompts.
        parameters: Its free numbers with their intervals, where they were determined.
    """

    score: Score
    parameters: tuple[Interval, ...] = ()

    @property
    def learner(self) -> Predictor:
        """The learner."""
        return self.score.learner

    def as_json(self) -> dict[str, Any]:
        """Plain values, those that are not finite as text."""
        named = [{"name": p.name, "value": p.value, "low": p.low, "high": p.high} for p in self.parameters]
        return {
            "learner": repr(self.learner),
            "distance": plain(self.score.distance),
            "low": plain(self.score.low),
            "high": plain(self.score.high),
            "correlation": self.score.correlation,
            "weights": self.score.weights and dict(zip(("distance", "low", "high"), self.score.weights, strict=True)),
            "parameters": named,
        }


@final
@dataclass(frozen=True, eq=False)
class Identification:
    """What a model's answers are.

    Args:
        verdict: *indistinguishable* from the best candidate, *closest* to it, or *none* of them.
        reason: The verdict in a sentence.
        ranking: The candidates, the nearest first; but the one that the verdict names stands first.
        agreeing: Other candidates that the answers do not tell from the best.
        kind: What the prompts are.
        prompts: How many there are.
        noise: The share of the answers that repeated prompts show to be noise; zero where none is repeated.
        remarks: What was not tried, and what these prompts cannot tell.
    """

    verdict: Verdict
    reason: str
    ranking: tuple[Candidate, ...]
    agreeing: tuple[Candidate, ...]
    kind: Kind
    prompts: int
    noise: float
    remarks: tuple[str, ...]

    @property
    def best(self) -> Candidate:
        """The candidate that the verdict is about."""
        return self.ranking[0]

    @property
    def diagnostics(self) -> tuple[Departure, ...]:
        """How far the best candidate is on every diagnostic."""
        return self.best.score.departures

    def as_json(self) -> dict[str, Any]:
        """What ``insitu identify --json`` prints."""
        rows = [
            {
                "name": d.name,
                "points": d.points,
                "distance": plain(d.distance),
                "low": plain(d.low),
                "high": plain(d.high),
                "floor": plain(d.rounding + d.noise),
                "within": d.within,
            }
            for d in self.diagnostics
        ]
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "best": self.best.as_json(),
            "ranking": [candidate.as_json() for candidate in self.ranking],
            "agreeing": [repr(candidate.learner) for candidate in self.agreeing],
            "diagnostics": rows,
            "prompts": self.prompts,
            "kind": self.kind,
            "noise": self.noise,
            "remarks": list(self.remarks),
        }


def plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def identify(
    answered: Sequence[Answered],
    *,
    candidates: Sequence[Predictor] = (),
    seed: Seed | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> Identification:
    """Name the learner behind a model's answers.

    Args:
        answered: Prompts with the model's answers, one entry for each context length.
        candidates: Further candidates, which are not fitted (a ``FinitePool`` with its pool, another network).
        seed: Where bootstrap samples are drawn.
        tell: Is told what is being tried, for a progress line.

    Raises:
        InputError: If there are too few prompts, or the answers cannot be compared (see :class:`Answered`).

    Example:
        >>> from insitu.learners import Ridge
        >>> from insitu.tasks import Gaussian, LinearRegression
        >>> prompt = LinearRegression(Gaussian(3)).sample(Seed(0), batch=64, points=8, queries=4).prompt
        >>> found = identify([Answered(prompt, Ridge(penalty=0.25).predict(prompt))])
        >>> found.verdict, found.best.learner
        ('indistinguishable', Ridge(penalty=0.25))
    """
    whole = study(answered)
    search = Search(whole, seed or Seed(0), tell)
    for family in FAMILIES:
        if not isinstance(family, LogisticFamily) or whole.kind == "classes":
            search.try_family(family)
    for given in candidates:
        search.add(Fit(given, 0, math.inf))
    if not search.explained():
        search.try_larger()
    return search.conclude()


class Search:
    """Candidates as they are fitted, and what follows from them."""

    def __init__(self, whole: Study, seed: Seed, tell: Callable[[str], None]) -> None:
        self.whole, self.seed, self.tell = whole, seed, tell
        self.fitting, self.held = whole.half(fitting=True), whole.half(fitting=False)
        self.few = whole.half(fitting=True, most=FEW)
        for block in (*self.fitting.blocks, *self.few.blocks):
            _ = block.view.spectrum, block.view.distances
        self.noise = noise_of(whole)
        self.fits: list[Fit] = []
        self.answers: list[list[Tensor]] = []
        self.remarks: list[str] = []

    def add(self, fit: Fit) -> None:
        """Take a fitted candidate in."""
        self.fits.append(fit)
        self.answers.append(answers_of(fit.learner, self.held))

    def try_family(self, family: Family) -> None:
        """Fit a family."""
        self.tell(type(family.learner(1, tuple(1.0 for _ in family.free))).__name__)
        self.add(find(family, self.fitting, self.few))

    def score(self) -> list[Score]:
        """All candidates on the held-out prompts."""
        rows = [(f.learner, f.size, a) for f, a in zip(self.fits, self.answers, strict=True)]
        return scores(rows, self.held, self.noise, self.seed / "bootstrap")

    def explained(self) -> bool:
        """Whether some candidate is within the floor already."""
        return any(score.within for score in self.score())

    def try_larger(self) -> None:
        """Descent with preconditioners and with a rate for every step."""
        self.tell("preconditioned GradientDescent")
        problem = Problem(DescentFamily(), Objective(self.fitting))
        start = min(problem.scan(), key=lambda entry: entry[0])
        rates = []
        for steps in STEPS:
            numbers, _ = problem.refined(steps, (start[2][0] * start[1] / steps,), rounds=15)
            rates.append((steps, numbers[0]))
        fits = matrix_fits(self.fitting, rates)
        if len(fits) < 2 * len(rates):
            dim = self.fitting.blocks[0].view.prompt.dim
            self.remarks.append(
                f"a full preconditioner has {dim**2} numbers; there are too few answers here to fit it."
            )
        for group in (fits, rate_fits(self.fitting, rates)):
            for kind in sorted({fit.size for fit in group}):
                # Of one size only the best number of steps is kept.
                self.add(min((fit for fit in group if fit.size == kind), key=lambda fit: fit.loss))

    def conclude(self) -> Identification:
        """The verdict."""
        self.tell("intervals")
        named = self.determined()
        found = self.score()
        candidates = [Candidate(s, tuple(named.get(i, ()))) for i, s in enumerate(found)]
        within = [i for i, s in enumerate(found) if s.within and self.departs_towards(i) is None]
        order = sorted(range(len(found)), key=lambda i: found[i].distance)
        if within:
            nearest = min(within, key=lambda i: found[i].distance)
            tied = [i for i in within if self.tied(found[i], found[nearest])]
            best = min(tied, key=lambda i: (found[i].size, i))
            agreeing = [i for i in tied if i != best]
            verdict: Verdict = "indistinguishable"
        else:
            tied = [i for i in order if not worse(found[i], found[order[0]])]
            best = min(tied, key=lambda i: (found[i].size, i))
            agreeing = []
            trivial = isinstance(found[best].learner, Zero | Mean)
            verdict = "none" if trivial or found[best].high > HALF else "closest"
        ranking = [best, *(i for i in order if i != best)]
        direction = self.departs_towards(best) if verdict == "closest" else None
        return Identification(
            verdict,
            reason(verdict, candidates[best], [candidates[i] for i in agreeing], direction),
            tuple(candidates[i] for i in ranking),
            tuple(candidates[i] for i in agreeing),
            self.whole.kind,
            self.whole.prompts,
            self.noise_share(),
            (*self.remarks, *unseen(self.whole, self.noise)),
        )

    def determined(self) -> dict[int, list[Interval]]:
        """The intervals of the best candidates' numbers; their learners then have no more digits than these bear."""
        found = self.score()
        order = sorted(range(len(found)), key=lambda i: found[i].distance)
        wanted = {*order[:DETERMINED], *(i for i in order if found[i].within)}
        named = {}
        for i in wanted:
            named[i] = self.fits[i].intervals()
            self.shorten(i, tidied(self.fits[i], named[i]), rounded(self.fits[i]))
        for i in set(order) - wanted:
            self.shorten(i, rounded(self.fits[i]))
        return named

    def shorten(self, index: int, *fits: Fit) -> None:
        """Take the first learner with fewer digits that rounding did not move off the answers."""
        most = WORSE * self.missed(self.answers[index]) + self.rounding()
        for fit in fits:
            answers = answers_of(fit.learner, self.held)
            if bool((self.missed(answers) <= most).all()):
                self.fits[index], self.answers[index] = fit, answers
                return

    def missed(self, answers: list[Tensor]) -> Tensor:
        """The mean squared error on every diagnostic."""
        pairs = zip(self.held.blocks, answers, strict=True)
        return self.held.per_diagnostic([block.missed(a) for block, a in pairs])

    def rounding(self) -> Tensor:
        """What rounding of the answers may leave of it."""
        return self.held.per_diagnostic([block.rounding for block in self.held.blocks])

    def tied(self, one: Score, nearest: Score) -> bool:
        """Whether a candidate within the floor is as good as the nearest: below rounding, or no worse beyond chance."""
        return all(d.distance <= d.rounding for d in one.departures) or not worse(one, nearest)

    def departs_towards(self, index: int) -> tuple[Predictor, float] | None:
        r"""Another candidate h towards which noisy answers depart from a candidate g, and how far.

        The answers are compared with :math:`g + \alpha (h - g)`, where h - g is taken orthogonal to what a change of
        g's own numbers could do. This sees a mixture of two algorithms that the noise hides from a plain distance.
        """
        if not self.noise:
            return None
        objective = Objective(self.held)
        zero = [torch.zeros_like(a) for a in self.answers[index]]
        missed, base = objective.residual(self.answers[index]), objective.residual(zero)
        slopes = self.fits[index].slopes
        own = slopes(objective) if slopes else missed.new_zeros(len(missed), 0)
        rivals = [i for i in range(len(self.fits)) if i != index]
        quantile = float(stats.norm.ppf(1 - (1 - CONFIDENCE) / 2 / len(rivals)))
        strongest: tuple[float, Predictor, float] | None = None
        for i in rivals:
            ahead = objective.residual(self.answers[i]) - missed
            if not bool(ahead.isfinite().all()) or ahead.square().sum() <= NEGLIGIBLE * base.square().sum():
                continue
            # Prompts on which the two are far apart count relative to that, or a handful would decide.
            apart = objective.per_prompt(ahead)
            typical = apart[apart > 0].median()
            root = apart.clamp(min=typical).rsqrt()[objective.clusters].repeat_interleave(objective.entries)
            basis = torch.linalg.qr(own * root[:, None]).Q
            ahead, gap = root * ahead, root * missed
            ahead = ahead - basis @ (basis.mT @ ahead)
            size = ahead.square().sum()
            share = (-(gap * ahead).sum() / size).item()
            each = (-gap * ahead - share * ahead.square()).view(-1, objective.entries).sum(1)
            summed = each.new_zeros(int(objective.clusters.max()) + 1).index_add_(0, objective.clusters, each)
            strength = abs(share) * size.item() / max(summed.norm().item(), 1e-300)
            if strength > quantile and (strongest is None or strength > strongest[0]):
                strongest = (strength, self.fits[i].learner, share)
        return strongest[1:] if strongest else None

    def noise_share(self) -> float:
        """Noise over answers, in the mean over diagnostics."""
        return (self.noise.variance / self.whole.energies().clamp(min=1e-300)).mean().item()


def worse(one: Score, other: Score) -> bool:
    """Whether one candidate is farther than another, beyond chance, on the same prompts."""
    gap = one.resampled - other.resampled
    return bool(torch.quantile(gap.nan_to_num(0.0), (1 - CONFIDENCE) / 2) > 0)


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def reason(
    verdict: Verdict, best: Candidate, agreeing: Sequence[Candidate], direction: tuple[Predictor, float] | None
) -> str:
    """The verdict as a sentence."""
    name, score = named(best.learner), best.score
    if verdict == "indistinguishable":
        others = ", ".join(named(c.learner) for c in agreeing)
        told = f"The answers are indistinguishable from {name}: the distance is below the floor on every diagnostic."
        if not others:
            return told
        return f"{told} So are {others}: on these prompts they answer alike, and {name} has the fewest free numbers."
    worst = score.worst
    left = max(0.0, score.distance - sum(d.noise for d in score.departures) / len(score.departures))
    departs = f"it departs most on {worst.name!r} (n = {worst.points}), where the distance is {worst.distance:.2g}."
    if verdict == "none":
        return (
            f"None of these learners: the nearest, {name}, leaves {percent(left)} of the answers unexplained; {departs}"
        )
    told = f"The answers are closest to {name}, which leaves {percent(left)} of them unexplained; {departs}"
    if direction is not None:
        told += f" They lie {percent(direction[1])} of the way towards {named(direction[0])}."
    return told


def named(learner: Predictor) -> str:
    """A learner's expression, with a large matrix cut short."""
    text = repr(learner)
    return text if len(text) <= 90 else text[:87] + "..."


def unseen(whole: Study, noise: Noise) -> list[str]:
    """What these prompts cannot tell."""
    told = []
    prompts = [block.view.prompt for block in whole.blocks]
    if all(p.points > p.dim for p in prompts) and all(bool((b.view.spectrum[1]).all()) for b in whole.blocks):
        told.append(
            "every context determines all weights: how the model fills in what examples leave open is not seen."
        )
    if all(len(b.copies.unique()) == len(b.copies) for b in whole.blocks):
        told.append("no prompt is repeated: noise of the answers counts as unexplained.")
    return told

"""Candidates as they are fitted and scored, and what follows from them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from scipy import special
from torch import Tensor

from insitu.identification import sentences
from insitu.identification.combinations import Mapped
from insitu.identification.directions import Direction, towards
from insitu.identification.evidence import Evidence
from insitu.identification.families import FAMILIES, LogisticFamily
from insitu.identification.family import Family
from insitu.identification.fitting import FamilyProblem, Fit, find, rounded, searched, tidied, worth
from insitu.identification.gains import gain_curves
from insitu.identification.interval import Interval
from insitu.identification.mixture_scores import determined, scored_mixture, with_intervals
from insitu.identification.mixtures import CombinedProblem, MixtureFit, mixture_fits
from insitu.identification.objective import Affine, Objective
from insitu.identification.preconditioners import MOST_RATES, STEPS, matrix_fits, rate_fits, start_fits
from insitu.identification.properties import properties
from insitu.identification.result import Candidate, Identification, Mixture, Name
from insitu.identification.scoring import Score, answers_of, noise_of, predicted, scores
from insitu.identification.spectral_families import DescentFamily
from insitu.learners import GradientDescent, Mean, Zero
from insitu.metrics.estimate import CONFIDENCE
from insitu.predictor import Predictor
from insitu.prompt import Prompt
from insitu.seed import Seed

__all__ = ["ALL_NOISE", "STAGES", "Search"]

# Prompts on which the search begins.
FEW = 240
# A candidate that leaves more than this share of the answers unexplained names nothing.
HALF = 0.5
# Noise beyond this share of the answers leaves nothing to be identified.
ALL_NOISE = 0.9
# How many of the best get intervals for their numbers.
DETERMINED = 3
# How often a search tells what it is at.
STAGES = len(FAMILIES) + 4
# Fewer digits may raise the squared error by this factor.
WORSE = 1.001
# The share of the answers that may hide in the direction of another candidate.
HIDDEN = 0.001
# Candidates whose answers differ by less, squared and relative to the model's, are one.
ALIKE = 1e-9
# Families that are searched thoroughly for a factor and an offset.
MAPPED = 3
# An affine map that leaves less than this share of what the nearest leaves is worth a remark.
TELLING = 0.5


class Search:
    """Candidates as they are fitted, and what follows from them.

    Args:
        whole: The answers.
        seed: Where bootstrap samples are drawn.
        tell: Is told what is being tried, for a progress line.
        families: The learners whose numbers are fitted; all that there are if none are given.
    """

    def __init__(
        self,
        whole: Evidence,
        seed: Seed,
        tell: Callable[[str], None] = lambda what: None,
        families: Sequence[Family] | None = None,
    ) -> None:
        self.whole, self.seed, self.tell = whole, seed, tell
        # The families that these prompts can be answers of.
        fitted = FAMILIES if families is None else families
        self.families = [f for f in fitted if not isinstance(f, LogisticFamily) or whole.kind == "classes"]
        self.fitting, self.held = whole.half(fitting=True), whole.half(fitting=False)
        few = whole.half(fitting=True, most=FEW)
        for block in (*self.fitting.blocks, *few.blocks):
            _ = block.view.spectrum, block.view.distances
        self.noise = noise_of(whole)
        self.objective, self.few, self.scored = (Objective(part, self.noise) for part in (self.fitting, few, self.held))
        self.fits: list[Fit] = []
        self.answers: list[list[Tensor]] = []
        self.remarks: list[str] = []
        self.mixture: Mixture | None = None
        self.known: dict[tuple[int, int], tuple[Score, Fit, list[Tensor]]] = {}

    def add(self, fit: Fit) -> None:
        """Take a fitted candidate in."""
        self.fits.append(fit)
        self.answers.append(answers_of(fit.learner, self.held))

    def try_families(self) -> None:
        """Fit every family; those that may come near are searched to the end, in the order of preference."""
        problems = [FamilyProblem(family, self.few) for family in self.families]
        most = worth(min((problem.scanned[0][0] for problem in problems), default=math.inf))
        for problem in problems:
            self.tell(type(problem.family.example).__name__)
            fit = find(problem, self.objective, most)
            most = min(most, worth(fit.loss, self.few.floor()))
            self.add(fit)

    def score(self) -> list[Score]:
        """All candidates on the held-out prompts; those that stand as they did are not scored again."""
        places = list(zip(map(id, self.fits), map(id, self.answers), strict=True))
        new = [i for i, place in enumerate(places) if place not in self.known]
        rows = [(self.fits[i].learner, self.fits[i].size, self.answers[i]) for i in new]
        found = scores(rows, self.held, self.noise, self.seed / "bootstrap") if new else []
        # With what was scored, whose identity no other object takes as long as it is held.
        self.known |= {places[i]: (score, self.fits[i], self.answers[i]) for i, score in zip(new, found, strict=True)}
        return [self.known[place][0] for place in places]

    def open(self) -> list[int]:
        """The candidates that nothing speaks against."""
        if not self.fits:
            return []
        return [i for i, s in enumerate(self.score()) if not s.departs and not self.refuted(i)]

    def directions(self, index: int) -> list[tuple[int, Direction]]:
        """How far the answers lie from a candidate towards every other one, where noise lets them."""
        if not self.noise:
            return []
        missed = self.scored.residual(self.answers[index])
        slopes = self.fits[index].slopes
        own = slopes(self.scored) if slopes else None
        rivals = [i for i in range(len(self.fits)) if i != index and not isinstance(self.fits[i].learner, Mapped)]
        found = ((i, towards(self.scored, missed, self.scored.residual(self.answers[i]) - missed, own)) for i in rivals)
        return [(i, direction) for i, direction in found if direction is not None]

    def refuted(self, index: int) -> bool:
        """Whether the answers lie away from a candidate, towards another one, beyond chance."""
        found = self.directions(index)
        quantile = float(special.ndtri(1 - (1 - CONFIDENCE) / 2 / max(len(found), 1)))
        return any(abs(direction.strength) > quantile for _, direction in found)

    def hidden(self, index: int) -> float:
        """The largest share of the answers that may lie towards another candidate."""
        quantile = float(special.ndtri(CONFIDENCE))
        return max((direction.most(quantile) for _, direction in self.directions(index)), default=0.0)

    def try_larger(self) -> None:
        """Descent with preconditioners, with a rate for every step, and from a start."""
        self.tell("preconditioned GradientDescent")
        problem = FamilyProblem(DescentFamily(), self.objective)
        _, some, (near,) = problem.scanned[0]
        rates = []
        for steps in range(1, max(STEPS[-1], MOST_RATES) + 1):
            numbers, _ = problem.refined(steps, (near * some / steps,), rounds=15)
            rates.append((steps, numbers[0]))
        fits = matrix_fits(self.fitting, rates[: len(STEPS)])
        if len(fits) < 2 * len(STEPS):
            dim = self.fitting.blocks[0].view.prompt.dim
            self.remarks.append(
                f"a full preconditioner has {dim**2} numbers; there are too few answers here to fit it."
            )
        for group in (fits, rate_fits(self.objective, rates), start_fits(self.objective, self.few)):
            for kind in sorted({fit.size for fit in group}):
                # Of one size only the best number of steps is kept.
                self.add(min((fit for fit in group if fit.size == kind), key=lambda fit: fit.loss))

    def try_mapped(self) -> None:
        """Every family with a factor and an offset; the best is kept."""
        self.tell("a factor and an offset")
        fitting, few = Affine(self.fitting), Affine(self.few.evidence)
        families = [family for family in self.families if not family.special and not isinstance(family.example, Zero)]
        problems = [FamilyProblem(family, few) for family in families]
        most = worth(min(problem.scanned[0][0] for problem in problems))
        left: dict[FamilyProblem, float] = {}
        for problem in problems:
            left[problem] = problem.scanned[0][0]
            if left[problem] <= most:
                *_, left[problem] = searched(problem, thorough=False)
                most = min(most, worth(left[problem], few.floor()))
        found: list[tuple[Fit, Mapped]] = []
        for problem in sorted(problems, key=left.__getitem__)[:MAPPED]:
            fit = find(problem, fitting)
            factor, offset = fitting.map(answers_of(fit.learner, self.fitting))
            mapped = mapped_by(fit, factor.item(), offset.flatten())
            found.append((replace(fit, named=renamed(fit, mapped)), mapped))
        # The simplest of those that leave about as little as the best.
        floor = max(min(fit.loss for fit, _ in found) * 1.05, fitting.floor())
        fit, mapped = min((entry for entry in found if entry[0].loss <= floor), key=lambda entry: entry[0].size)
        self.add(replace(fit, learner=mapped, size=fit.size + 1 + any(mapped.offset)))
        *others, own = self.score()
        if own.departs and own.left >= TELLING * min(score.left for score in others):
            # It explains little that the learners themselves do not.
            del self.fits[-1], self.answers[-1]

    def try_mixtures(self) -> None:
        """The first mixture that nothing speaks against and whose weights are determined.

        Under noise it may be one that is only near: then a later one takes its place towards which the answers lie,
        or one that is plainer and from which they do not lie away.
        """
        self.tell("mixtures")
        single = min(fit.loss for fit in self.fits)
        noise = self.objective.expected([self.noise.variance[block.group] for block in self.fitting.blocks])
        first: MixtureFit | None = None
        for fit in mixture_fits(self.families, self.objective, self.few, single, noise):
            if first is not None and not self.replaces(fit, first):
                continue
            mixture = scored_mixture(fit, self.objective, self.held, self.noise, self.seed / "bootstrap")
            if mixture is not None and not mixture.score.departs and determined(mixture):
                self.mixture, first = mixture, fit
                if not self.noise:
                    break
        if self.mixture is not None and first is not None:
            self.mixture = with_intervals(self.mixture, first, self.objective)

    def replaces(self, fit: MixtureFit, first: MixtureFit) -> bool:
        """Whether a later mixture is the better one: nearer beyond chance, or as near and plainer."""
        if self.plainness(fit) < self.plainness(first):
            return not self.leads(fit, first)
        return fit.loss < first.loss and self.leads(first, fit)

    def plainness(self, fit: MixtureFit) -> tuple[int, int]:
        """How many numbers a mixture has, then how early its families stand in the order of preference."""
        return fit.combined.size, sum(self.families.index(atom.family) for atom in fit.combined.atoms)

    def leads(self, one: MixtureFit, other: MixtureFit) -> bool:
        """Whether held-out answers lie away from a mixture, towards another one, beyond chance."""
        scored = CombinedProblem(self.scored)
        missed, there = (scored.residual(fit.combined, scored.place(fit.combined)) for fit in (one, other))
        own = scored.slopes(one.combined, scored.place(one.combined))
        direction = towards(self.scored, missed, there - missed, own)
        return direction is not None and direction.strength > float(special.ndtri((1 + CONFIDENCE) / 2))

    def conclude(self) -> Identification:
        """The verdict."""
        self.tell("intervals")
        named = self.determined()
        self.drop_doubles(named)
        found = self.score()
        order = sorted(range(len(found)), key=lambda i: found[i].distance)
        undecided = [i for i in order if not found[i].departs and not self.refuted(i)]
        shown = [i for i in undecided if found[i].within and self.hidden(i) <= HIDDEN]
        pool = [i for i in shown or undecided if not isinstance(found[i].learner, Mapped)] or shown or undecided
        tied = [i for i in pool if self.tied(found[i], found[pool[0]])]
        # Of equally many numbers, plain descent (with a rate for each step) goes before what speeds it up.
        plainness = [(s.size, not isinstance(s.learner, GradientDescent), i) for i, s in enumerate(found)]
        best = min(tied, key=plainness.__getitem__) if tied else order[0]
        agreeing = [i for i in tied if i != best]
        verdict, reason = self.verdict(found, best, agreeing, bool(shown), bool(undecided))
        candidates = [Candidate(s, tuple(named.get(i, ()))) for i, s in enumerate(found)]
        ranking = [best, *(i for i in order if i != best)]
        return Identification(
            verdict,
            reason,
            tuple(candidates[i] for i in ranking),
            tuple(candidates[i] for i in agreeing if verdict == "indistinguishable"),
            self.mixture,
            tuple(properties(self.whole, self.noise)),
            tuple(gain_curves(self.whole)),
            self.whole.kind,
            self.whole.prompts,
            self.noise.share(self.whole),
            (*self.limits(best), *self.remarks, *sentences.unseen(self.whole, self.noise)),
        )

    def verdict(
        self, found: Sequence[Score], best: int, agreeing: Sequence[int], shown: bool, undecided: bool
    ) -> tuple[Name, str]:
        """The verdict on the best candidate, with its sentence."""
        score, noise = found[best], self.noise.share(self.whole)
        if self.mixture is not None:
            return "mixture", self.mixture_sentence(noise)
        if isinstance(score.learner, Mapped) and (shown or undecided):
            return "closest", sentences.mapped(
                replace(score, learner=score.learner.learner), score.learner.factor, score.learner.offset, noise
            )
        if shown:
            return "indistinguishable", sentences.same(score, [found[i] for i in agreeing], noise)
        if undecided:
            return "closest", sentences.open_question(score, [found[i] for i in agreeing], noise, self.hidden(best))
        trivial = isinstance(score.learner, Zero | Mean)
        if trivial or score.left > HALF:
            return "none", sentences.nothing(score, noise)
        return "closest", sentences.nearest(score, noise)

    def mixture_sentence(self, noise: float) -> str:
        """What a mixture is made of, in words."""
        assert self.mixture is not None
        return sentences.mixture(
            [(p.learner, p.weight.value, p.weight.low, p.weight.high) for p in self.mixture.parts],
            self.mixture.way,
            self.mixture.switches,
            {n: p.value for n, p in self.mixture.parts[0].by_length.items()},
            noise,
        )

    def only_noise(self) -> Identification:
        """The outcome where answers to equal prompts differ as much as others."""
        self.add(Fit(Zero(), 0, math.inf))
        (score,) = self.score()
        share = self.noise.share(self.whole)
        return Identification(
            "none",
            sentences.all_noise(share),
            (Candidate(score),),
            (),
            None,
            (),
            (),
            self.whole.kind,
            self.whole.prompts,
            share,
            ("the answers are noise.", *self.remarks),
        )

    def limits(self, best: int) -> list[str]:
        """Which numbers of the best candidate ended at a limit of the search; none where a mixture is named."""
        if self.mixture is not None:
            return []
        return [
            f"{name} of {type(self.fits[best].learner).__name__} reached the limit of the search: more was not tried."
            for name in self.fits[best].limits
        ]

    def determined(self) -> dict[int, list[Interval]]:
        """The intervals of the best candidates' numbers; their learners then have no more digits than these bear."""
        found = self.score()
        order = sorted(range(len(found)), key=lambda i: found[i].distance)
        wanted = {*order[:DETERMINED], *(i for i in order if not found[i].departs)}
        named = {}
        for i in wanted:
            named[i] = self.fits[i].intervals()
            self.shorten(i, tidied(self.fits[i], named[i]), rounded(self.fits[i]))
        for i in set(order) - wanted:
            self.shorten(i, rounded(self.fits[i]))
        return named

    def drop_doubles(self, named: dict[int, list[Interval]]) -> None:
        """Leave out candidates that answer as a simpler one: a penalty without end answers zero."""
        found = self.score()
        energies = self.held.energies().clamp(min=1e-300)

        def alike(i: int, j: int) -> bool:
            pairs = zip(self.answers[i], self.answers[j], strict=True)
            apart = self.held.per_diagnostic([(a - b).square().mean((1, 2)) for a, b in pairs])
            return bool((apart <= ALIKE * energies).all())

        doubles = {
            i
            for i, fit in enumerate(self.fits)
            for j, other in enumerate(self.fits)
            if other.size < fit.size
            and (found[j].exact or not found[i].exact)
            and alike(i, j)
            and (not found[i].exact or self.same(fit.learner, other.learner))
        }
        kept = [i for i in range(len(self.fits)) if i not in doubles]
        self.fits, self.answers = [self.fits[i] for i in kept], [self.answers[i] for i in kept]
        moved = {place: named[i] for place, i in enumerate(kept) if i in named}
        named.clear()
        named.update(moved)

    def same(self, one: Predictor, other: Predictor) -> bool:
        """Whether two learners that agree on these prompts do so on their first halves too, and are one."""
        for block in self.held.blocks:
            p = block.view.prompt
            kept = max(1, p.points // 2)
            half = Prompt(p.xs[:, :kept], p.ys[:, :kept], p.queries)
            a, b = predicted(one, half), predicted(other, half)
            if not bool((a - b).square().mean() <= ALIKE * a.square().mean()):
                return False
        return True

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
        """Whether a candidate is as good as the nearest: below rounding, or no worse beyond chance."""
        return all(d.distance <= d.rounding for d in one.departures) or not worse(one, nearest)


def renamed(fit: Fit, mapped: Mapped) -> Callable[[Sequence[float]], Mapped] | None:
    """The mapped learner with other numbers, where it has any."""
    named = fit.named
    return None if named is None else lambda values: replace(mapped, learner=named(values))


def mapped_by(fit: Fit, factor: float, offset: Tensor) -> Mapped:
    """A learner with a factor and an offset, without digits that say nothing."""
    size = max(abs(factor), 1e-300)
    kept = [value if abs(value) > 1e-6 * size else 0.0 for value in offset.tolist()]
    near = float(f"{factor:.6g}")
    return Mapped(fit.learner, near if abs(near - factor) < 1e-9 * size else factor, tuple(kept))


def worse(one: Score, other: Score) -> bool:
    """Whether one candidate is farther than another, beyond chance, on the same prompts."""
    gap = one.resampled - other.resampled
    return bool(torch.quantile(gap.nan_to_num(0.0), (1 - CONFIDENCE) / 2) > 0)

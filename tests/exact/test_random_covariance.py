"""Covariances that vary from prompt to prompt: expectations by enumeration, minima by samples and by search."""

import itertools
import math

import pytest
import torch
from scipy import optimize, stats
from tests.rounding import regression

from insitu.errors import InputError
from insitu.seed import Seed
from insitu.theory.one_layer.population import Population
from insitu.theory.one_layer.random_covariance import (
    DiagonalCovariances,
    best_product,
    descent_constant,
    initialisation_limit,
    limit_error,
    product_loss,
    scalar_floor,
)

EXPONENTIAL = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)


def exponential(dim, length):
    return DiagonalCovariances.from_moments(EXPONENTIAL.expand(dim, 3), length)


def wishart(count, dim=3, seed=0):
    """Covariances of different shapes and directions, none diagonal."""
    scale = torch.diag(torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64).sqrt()[:dim])
    roots = (Seed(seed) / "wishart").normal(count, dim, dim + 1)
    found = scale @ roots @ roots.mT @ scale / (dim + 1) + 0.05 * torch.eye(dim, dtype=torch.float64)
    return (found + found.mT) / 2


@pytest.mark.parametrize("length", [1, 6])
def test_moments_of_independent_laws_are_those_of_all_outcomes(length):
    """Every coordinate takes two values of its own; all eight outcomes together are the law."""
    values = torch.tensor([[0.5, 2.0], [1.0, 3.0], [0.2, 0.9]], dtype=torch.float64)
    outcomes = torch.tensor(list(itertools.product(*values.tolist())), dtype=torch.float64)
    moments = torch.stack([values.mean(1), values.square().mean(1), values.pow(3).mean(1)], dim=1)
    by_moments = DiagonalCovariances.from_moments(moments, length)
    by_outcomes = DiagonalCovariances.from_samples(outcomes, length)
    for name in ("rates", "pushes", "means"):
        torch.testing.assert_close(getattr(by_moments, name), getattr(by_outcomes, name), atol=1e-14, rtol=1e-13)
    # And entry by entry, with the expectation of theorem 4.5 written out as matrices.
    keyed = [(1 + 1 / length) * torch.diag(o) + o.sum() / length * torch.eye(3).double() for o in outcomes]
    unit = Seed(1).normal(3, 3)
    pulled = sum(k @ torch.diag(o) @ unit @ torch.diag(o) for k, o in zip(keyed, outcomes, strict=True)) / 8
    torch.testing.assert_close(by_outcomes.rates * unit, pulled, atol=1e-13, rtol=0)


def test_the_exponential_law_has_the_numbers_of_the_sheet():
    for dim, length in ((20, 40), (5, 10), (3, 6)):
        law = exponential(dim, length)
        gamma = 6 + (2 * dim + 10) / length
        torch.testing.assert_close(law.best_diagonal(), torch.full((dim,), 2 / gamma, dtype=torch.float64))
        assert law.minimum_loss() == pytest.approx(dim / 2 * (1 - 4 / gamma), rel=1e-12)
    assert f"{exponential(3, 6).best_diagonal()[0].item():.4f}" == "0.2308"
    assert f"{exponential(3, 6).minimum_loss():.4f}" == "0.8077"


@pytest.mark.parametrize(
    ("trained", "tested", "scale", "expected"),
    [
        (40, 40, 1, "0.4483"),
        (40, 100, 1, "0.3912"),
        (100, 100, 1, "0.3846"),
        (40, 40, 4, "21.66"),
        (70, 70, 9, "346.8"),
    ],
)
def test_test_errors_are_those_of_the_worked_table(trained, tested, scale, expected):
    learned = torch.diag(exponential(20, trained).best_diagonal())
    error = 2 * exponential(20, tested).scaled(scale).loss(learned) / 20
    assert f"{error.item():.4g}" == expected
    # The white-trained layer on the same prompts is far worse at c = 1.
    white = Population(torch.eye(20, dtype=torch.float64), 40).best_step
    assert f"{(2 * exponential(20, 40).loss(white) / 20).item():.4f}" == "1.4945"


def sampled(count, dim, length, seed):
    scales = -(1 - (seed / "exp").uniform(count, dim)).log()
    xs = (seed / "x").normal(count, length + 1, dim) * scales.sqrt()[:, None]
    weights = (seed / "w").normal(count, dim)
    ys = (xs * weights[:, None]).sum(-1)
    return (ys[:, :length, None] * xs[:, :length]).mean(1), xs[:, length], ys[:, length]


def test_loss_and_minimum_are_those_of_samples():
    seen, queries, truth = sampled(400_000, 3, 6, Seed(2))
    law = exponential(3, 6)
    matrix = 0.1 * Seed(3).normal(3, 3)
    losses = ((seen @ matrix) * queries).sum(-1).sub(truth).square() / 2
    error = 4 * losses.std().item() / math.sqrt(len(losses))
    assert law.loss(matrix).item() == pytest.approx(losses.mean().item(), abs=error)
    features = (seen[:, :, None] * queries[:, None]).flatten(1)
    found, error = regression(features, truth)
    fixed = Population(torch.eye(3, dtype=torch.float64), 6).best_step
    assert ((found - torch.diag(law.best_diagonal()).flatten()).abs() < 5 * error).all()
    assert ((found - fixed.flatten()).abs() > 5 * error).any(), "the sample tells a varying covariance from its mean"


def test_the_flow_reaches_the_corrected_limit():
    moments = torch.tensor([[1.0, 2.0, 6.0], [1.0, 1.5, 3.0], [0.5, 1 / 3, 0.25]], dtype=torch.float64)
    law = DiagonalCovariances.from_moments(moments, 6)
    root = Seed(4).normal(3, 3)
    start = root @ root.T
    start = 0.05 * start / torch.linalg.matrix_norm(start)
    times = torch.tensor([0.0, 1.0, 10.0, 1e4], dtype=torch.float64)
    flow = law.flow(start, torch.tensor(0.05, dtype=torch.float64), times)
    matrix, scalar = law.global_minimum()
    torch.testing.assert_close(flow.matrices[-1], matrix, atol=1e-9, rtol=0)
    torch.testing.assert_close(flow.scalars[-1], scalar, atol=1e-9, rtol=0)
    assert flow.losses[-1].item() == pytest.approx(law.minimum_loss(), rel=1e-12)
    printed = (law.best_diagonal()).sum() ** 0.25  # Equation C.15 as printed.
    assert abs(printed - scalar) > 0.01
    # The losses along the way are those of the matrices, with no sum of squares.
    for place in range(4):
        product = flow.scalars[place] * flow.matrices[place]
        torch.testing.assert_close(law.loss(product), flow.losses[place], atol=1e-12, rtol=0)


def test_a_law_that_does_not_vary_is_the_fixed_covariance():
    values = torch.tensor([[3.0, 1.0, 0.5]], dtype=torch.float64)
    law, population = DiagonalCovariances.from_samples(values, 7), Population(torch.diag(values[0]), 7)
    assert law.minimum_loss() == pytest.approx(population.minimum_loss(), rel=1e-12)
    torch.testing.assert_close(torch.diag(law.best_diagonal()), population.best_step)
    shape = Seed(5).normal(3, 3)
    # The general bound is weaker than theorem 4.1's on the same covariance: it uses |Lambda|_F.
    assert initialisation_limit(shape, values, 7) <= population.initialisation_limit()


def test_the_best_product_is_what_a_search_finds():
    matrices = wishart(12)
    found = optimize.minimize(
        lambda v: product_loss(torch.from_numpy(v).view(3, 3), matrices, 6), torch.zeros(9).double().numpy(), tol=1e-12
    )
    best = best_product(matrices, 6)
    torch.testing.assert_close(best, torch.from_numpy(found.x).view(3, 3), atol=1e-5, rtol=0)


def test_the_diagonal_formula_is_not_the_minimum_on_other_covariances():
    matrices = wishart(400)
    trace = matrices.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    keyed = ((1 + 1 / 6) * matrices @ matrices + trace / 6 * matrices) @ matrices
    diagonal = torch.linalg.solve(keyed.mean(0), (matrices @ matrices).mean(0))
    best = best_product(matrices, 6)
    assert product_loss(diagonal, matrices, 6) > product_loss(best, matrices, 6) * 1.005
    # On diagonal covariances the two are the same matrix.
    spectra = Seed(6).uniform(50, 3) + 0.1
    law = DiagonalCovariances.from_samples(spectra, 6)
    torch.testing.assert_close(best_product(torch.diag_embed(spectra), 6), torch.diag(law.best_diagonal()))


def test_what_remains_at_infinite_lengths():
    law = exponential(4, math.inf)
    error = 2 * law.minimum_loss() / law.means.sum().item()
    assert error == pytest.approx(1 / 3, rel=1e-12)
    gamma3, uniform = (3.0, 12.0, 60.0), (1 / 2, 1 / 3, 1 / 4)
    rows = torch.tensor([EXPONENTIAL.tolist(), gamma3, uniform, (2.0, 4.0, 8.0)], dtype=torch.float64)
    torch.testing.assert_close(limit_error(rows), torch.tensor([1 / 3, 1 / 5, 1 / 9, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        ([[1.0, 2.0, -6.0]], r"positive, three per coordinate; got .*-6\.0"),
        ([[1.0, 0.5, 6.0]], "no positive law"),
        ([[1.0, 2.0, 3.0]], "no positive law"),
        ([[1.0, math.nan, 3.0]], "moments must be finite; got 1 entries"),
    ],
)
def test_moments_of_no_law_are_refused(moments, message):
    with pytest.raises(InputError, match=message):
        DiagonalCovariances.from_moments(torch.tensor(moments, dtype=torch.float64), 5)


def test_samples_that_are_no_covariances_are_refused():
    with pytest.raises(InputError, match="eigenvalues must be positive"):
        DiagonalCovariances.from_samples(torch.tensor([[1.0, 0.0]]).double(), 5)
    with pytest.raises(InputError, match=r"covariances\[0\] must be positive definite"):
        best_product(torch.ones(1, 2, 2).double(), 5)
    with pytest.raises(InputError, match=r"covariances\[1\] must be positive definite.*are -1 and -1"):
        best_product(torch.stack([torch.eye(2), -torch.eye(2)]).double(), 5)
    with pytest.raises(InputError, match="length must be a whole number"):
        best_product(torch.eye(2).double()[None], 0)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("law", ["exponential", "gamma", "uniform", "lognormal"])
def test_the_bounds_of_the_flow_hold_along_it(law, share):
    draws = {
        "exponential": lambda u: -torch.log1p(-u),
        "gamma": lambda u: torch.from_numpy(stats.gamma(3).ppf(u)),
        "uniform": lambda u: 0.1 + u,
        "lognormal": lambda u: torch.from_numpy(stats.lognorm(0.5).ppf(u)),
    }
    spectra = draws[law]((Seed(6) / law).uniform(500, 3)).clamp(min=1e-9)
    covariances = DiagonalCovariances.from_samples(spectra, 6)
    shape = Seed(7).normal(3, 3)
    scale = share * initialisation_limit(shape, spectra, 6)
    start = shape @ shape.T
    start = scale * start / torch.linalg.matrix_norm(start)
    times = torch.cat([torch.zeros(1), torch.logspace(-3, 2, 60)]).double()
    flow = covariances.flow(start, torch.tensor(scale, dtype=torch.float64), times)
    floor, constant = (bound(shape, spectra, 6, scale) for bound in (scalar_floor, descent_constant))
    assert flow.scalars.min() >= floor
    for matrix, scalar, gap in zip(flow.matrices, flow.scalars, flow.gaps, strict=True):
        point = [matrix.clone().requires_grad_(), scalar.clone().requires_grad_()]
        slopes = torch.autograd.grad(covariances.loss(point[0] * point[1]), point)
        if gap > 1e-12:
            assert sum(s.square().sum() for s in slopes) >= constant * gap
    assert (flow.gaps <= torch.exp(-constant * times) * flow.gaps[0] * (1 + 1e-9) + 1e-15).all()
    # The floor once more, from one matrix per covariance.
    theta = shape / torch.linalg.matrix_norm(shape @ shape.T).sqrt()
    spread = torch.diag_embed(spectra)
    keyed = 7 / 6 * spread + spectra.sum(1)[:, None, None] / 6 * torch.eye(3)
    weight = torch.linalg.matrix_norm(keyed, 2) * torch.linalg.matrix_norm(spread).square()
    room = 2 * (spread.mean(0) @ theta).square().sum() - 3**0.5 * scale**2 * weight.mean()
    push = torch.linalg.matrix_norm((spread @ spread).mean(0), 2)
    assert floor**2 == pytest.approx((scale**2 * room / (2 * 3**0.5 * push)).item(), rel=1e-12)
    with pytest.raises(InputError, match="below"):
        scalar_floor(shape, spectra, 6, 1.01 * initialisation_limit(shape, spectra, 6))

"""The risk on any test distribution against prompts drawn by hand."""

import math

import pytest
import torch

from insitu.errors import InputError
from insitu.seed import Seed
from insitu.theory.one_layer.one_step import step_error
from insitu.theory.one_layer.population import Population
from insitu.theory.one_layer.risk import (
    Labels,
    average_linear_risk,
    floor_constant,
    guarantee,
    layer_risk,
    length_for,
    linear_labels,
    linear_risk,
    single_index_labels,
)

DENSE = torch.tensor([[1.0, 0.3, 0.0], [0.3, 0.7, -0.2], [0.0, -0.2, 0.4]], dtype=torch.float64)
POPULATION = Population(DENSE, length=6)
WEIGHTS = torch.tensor([1.0, -0.5, 0.8], dtype=torch.float64)
EYE = torch.eye(20, dtype=torch.float64)

LINKS = {
    "linear": (lambda z: z, 0.0),
    "noisy": (lambda z: z, 0.5),
    "quadratic": (lambda z: z + 0.5 * z**2 + 0.3, 0.1),
    "sine": (lambda z: torch.sin(2 * z) + 0.1 * z**3, 0.0),
    "rectified": (lambda z: z.clamp(min=0) - torch.sign(z), 0.2),
}


def sampled(population, length, link, noise, count, seed):
    """Squared errors of the trained layer, with the sum written out."""
    xs = (seed / "x").normal(count, length + 1, 3) @ torch.linalg.cholesky(population.covariance).T
    ys = link(xs @ WEIGHTS) + math.sqrt(noise) * (seed / "e").normal(count, length + 1)
    seen = (ys[:, :length, None] * xs[:, :length]).sum(1) / length
    answers = (torch.linalg.solve(population.key_matrix, seen.T).T * xs[:, length]).sum(-1)
    return (answers - ys[:, length]).square()


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize(("trained", "length"), [(6, 2), (20, 40)])
def test_the_risk_is_that_of_samples(name, trained, length):
    link, noise = LINKS[name]
    population = Population(DENSE, trained)
    found = layer_risk(population, length, single_index_labels(population, WEIGHTS, link, noise))
    squares = sampled(population, length, link, noise, 2_000_000 // (length + 20), Seed(1) / name / length)
    error = 4 * squares.std().item() / math.sqrt(len(squares))
    assert found.total == pytest.approx(squares.mean().item(), abs=error)
    # The training length in the place of the test length.
    wrong = layer_risk(population, trained, single_index_labels(population, WEIGHTS, link, noise))
    assert abs(wrong.total - squares.mean().item()) > error


def test_a_linear_link_gives_the_formula_of_linear_labels():
    by_integrals = single_index_labels(POPULATION, WEIGHTS, lambda z: z, 0.5)
    by_formula = linear_labels(POPULATION, WEIGHTS, 0.5)
    torch.testing.assert_close(by_integrals.cross, by_formula.cross, atol=1e-13, rtol=0)
    torch.testing.assert_close(by_integrals.spread, by_formula.spread, atol=1e-12, rtol=0)
    assert by_integrals.residual == pytest.approx(0.5, abs=1e-12)


def test_the_moments_are_those_of_samples():
    labels = single_index_labels(POPULATION, WEIGHTS, torch.sign)
    xs = Seed(3).normal(400_000, 3) @ torch.linalg.cholesky(DENSE).T
    products = xs * torch.sign(xs @ WEIGHTS)[:, None]
    torch.testing.assert_close(labels.cross, products.mean(0), atol=0.01, rtol=0)
    torch.testing.assert_close(labels.spread, products.T.cov(), atol=0.01, rtol=0)


@pytest.mark.parametrize("length", [5, 6, math.inf])
@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_two_formulas_agree_on_linear_tasks(length, noise):
    """Theorem 4.2 against the error of one step, fixed and averaged over tasks."""
    step = torch.linalg.inv(POPULATION.key_matrix)
    fixed = step_error(step, DENSE, length, weights=torch.outer(WEIGHTS, WEIGHTS), noise_variance=noise)
    assert linear_risk(POPULATION, length, WEIGHTS, noise).total == pytest.approx(fixed + noise, rel=1e-12)
    average = step_error(step, DENSE, length, noise_variance=noise)
    assert average_linear_risk(POPULATION, length, noise).total == pytest.approx(average + noise, rel=1e-12)


def test_at_equal_lengths_it_is_twice_the_least_loss():
    assert average_linear_risk(POPULATION, 6).total == pytest.approx(2 * POPULATION.minimum_loss(), rel=1e-13)


def test_the_numbers_of_the_worked_table():
    table = {(40, 40): "0.3443", (40, 100): "0.2088", (70, 70): "0.2308", (100, 100): "0.1736"}
    for (trained, tested), expected in table.items():
        assert f"{average_linear_risk(Population(EYE, trained), tested).total / 20:.4f}" == expected
    # Without the trace term in the key matrix the learned step would be another, and its error larger.
    wrong = torch.linalg.inv((1 + 1 / 40) * EYE)
    assert step_error(wrong, EYE, 40) / 20 > 0.45


def test_limits_in_both_lengths():
    endless = Population(DENSE, math.inf)
    assert average_linear_risk(endless, 50).total == pytest.approx(4 * DENSE.trace().item() / 50, rel=1e-12)
    assert endless.minimum_loss() == 0
    long = Population(DENSE, 10**7)
    assert average_linear_risk(long, math.inf).total * 1e14 == pytest.approx(floor_constant(long), rel=1e-5)
    values = torch.linalg.eigvalsh(DENSE)
    by_hand = 7 * values.sum() + (1 / values).sum() * values.sum() ** 2
    assert floor_constant(POPULATION) == pytest.approx(by_hand.item(), rel=1e-12)


@pytest.mark.parametrize("trained", [2, 10, 100])
@pytest.mark.parametrize("excess", [1.0, 0.01])
def test_the_guarantee_holds(trained, excess):
    population = Population(DENSE, trained)
    assert average_linear_risk(population, length_for(population, excess)).total <= guarantee(population) + excess


def test_five_hundred_dimensions_have_the_error_of_their_step():
    root = Seed(0).normal(500, 500)
    covariance = root @ root.T / 500 + 0.1 * torch.eye(500, dtype=torch.float64)
    population, weights = Population((covariance + covariance.T) / 2, 250), Seed(1).normal(500)
    task = torch.outer(weights, weights)
    expected = step_error(population.best_step, population.covariance, 150, weights=task)
    assert linear_risk(population, 150, weights).total == pytest.approx(expected, rel=1e-9)


def test_one_dimension_and_one_example():
    population = Population(torch.ones(1, 1, dtype=torch.float64), 1)
    # Gamma = 3, so yhat = x_q x^2 w / 3: E (x^2/3 - 1)^2 = 3/9 - 2/3 + 1.
    assert linear_risk(population, 1, torch.ones(1, dtype=torch.float64)).total == pytest.approx(2 / 3, rel=1e-13)


@pytest.mark.usefixtures("as_users_run")
def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"weights must be .* dim = 3"):
        linear_risk(POPULATION, 5, torch.ones(2).double())
    with pytest.raises(InputError, match="test_length must be a whole number"):
        average_linear_risk(POPULATION, 0)
    with pytest.raises(InputError, match="direction must not be zero"):
        single_index_labels(POPULATION, torch.zeros(3).double(), torch.sign)
    with pytest.raises(InputError, match="residual"):
        Labels(WEIGHTS, DENSE, -1.0)
    with pytest.raises(InputError, match=r"spread must be .* dim = 3"):
        Labels(WEIGHTS, torch.eye(2).double(), 0.0)

"""One preconditioned step: its error and its optimum against regression on samples and the papers' formulas."""

import math

import pytest
import torch
from tests.rounding import regression

from insitu.errors import InputError
from insitu.models import gradient_descent
from insitu.seed import Seed
from insitu.tasks import Gaussian, LinearRegression
from insitu.theory.one_layer.one_step import best_step, best_step_loss, step_error
from insitu.theory.one_layer.population import Population

DENSE = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
OTHER = torch.tensor([[0.6, -0.2, 0.1], [-0.2, 1.5, 0.0], [0.1, 0.0, 0.8]], dtype=torch.float64)
PRIOR = torch.diag(torch.tensor([2.0, 0.5, 0.1], dtype=torch.float64))
EYE = torch.eye(3, dtype=torch.float64)


def prompts(seed, count, length, covariance, query, prior, noise_variance):
    """Inputs averaged against labels, queries and clean targets, drawn with nothing from the library's tasks."""
    roots = [torch.linalg.cholesky(c) for c in (covariance, query, prior)]
    xs = (seed / "x").normal(count, length, 3) @ roots[0].T
    queries = (seed / "q").normal(count, 3) @ roots[1].T
    weights = (seed / "w").normal(count, 3) @ roots[2].T
    ys = (xs * weights[:, None]).sum(-1) + math.sqrt(noise_variance) * (seed / "e").normal(count, length)
    return (ys[..., None] * xs).mean(1), queries, (weights * queries).sum(-1)


@pytest.mark.parametrize(("length", "noise"), [(5, 0.0), (5, 0.8), (2, 0.3)])
def test_the_error_under_every_shift_is_that_of_samples(length, noise):
    step = 0.3 * Seed(1).normal(3, 3)
    seen, queries, truth = prompts(Seed(2) / length, 200_000, length, OTHER, DENSE, PRIOR, noise)
    squares = ((queries @ step) * seen).sum(-1).sub(truth).square()
    error = 4 * squares.std().item() / math.sqrt(len(squares))
    parts = {"query": DENSE, "weights": PRIOR, "noise_variance": noise}
    assert step_error(step, OTHER, length, **parts) == pytest.approx(squares.mean().item(), abs=error)
    for wrong in ({**parts, "query": OTHER}, {**parts, "weights": EYE}, {**parts, "noise_variance": noise + 0.5}):
        assert abs(step_error(step, OTHER, length, **wrong) - squares.mean().item()) > error
    assert abs(step_error(step, OTHER, 6 * length, **parts) - squares.mean().item()) > error


@pytest.mark.parametrize(("prior", "noise"), [(EYE, 0.0), (PRIOR, 0.6), (torch.linalg.inv(DENSE), 0.3)])
def test_the_best_step_is_that_of_least_squares_on_samples(prior, noise):
    prior = (prior + prior.T) / 2
    seen, queries, truth = prompts(Seed(3), 200_000, 6, DENSE, DENSE, prior, noise)
    features = (queries[:, :, None] * seen[:, None, :]).flatten(1)
    found, error = regression(features, truth)
    exact, wrong = (best_step(DENSE, length, weights=prior, noise_variance=noise).flatten() for length in (6, 9))
    assert ((found - exact).abs() < 5 * error).all()
    assert ((found - wrong).abs() > 5 * error).any(), "the sample must be able to tell N = 6 from 9"
    loss = (features @ found - truth).square() / 2
    error = 4 * loss.std().item() / math.sqrt(len(loss))
    assert best_step_loss(DENSE, 6, weights=prior, noise_variance=noise) == pytest.approx(loss.mean().item(), abs=error)


def test_the_best_step_is_where_the_gradient_of_the_error_vanishes():
    best = best_step(DENSE, 6, weights=PRIOR, noise_variance=0.4)
    here = step_error(best, DENSE, 6, weights=PRIOR, noise_variance=0.4)
    for place in range(5):
        move = 1e-3 * (Seed(4) / place).normal(3, 3)
        ends = [step_error(best + s * move, DENSE, 6, weights=PRIOR, noise_variance=0.4) for s in (1, -1)]
        assert ends[0] - ends[1] == pytest.approx(0.0, abs=1e-12)
        assert min(ends) > here


def test_the_formulas_of_four_papers_are_special_cases():
    population = Population(DENSE, 6)
    torch.testing.assert_close(best_step(DENSE, 6), torch.linalg.inv(population.key_matrix), atol=1e-13, rtol=0)
    assert best_step_loss(DENSE, 6) == pytest.approx(population.minimum_loss(), rel=1e-12)
    # Wu et al. (2023).
    wu = torch.linalg.inv((DENSE.trace() + 0.6 / 0.5) / 6 * EYE + 7 / 6 * DENSE)
    torch.testing.assert_close(best_step(DENSE, 6, weights=0.5 * EYE, noise_variance=0.6), wu, atol=1e-13, rtol=0)
    # Mahankali et al. (2023): eta on the sum over examples, 1 / (N + 1 + d + s2).
    step = best_step(EYE, 6, noise_variance=0.6)
    torch.testing.assert_close(step / 6, EYE / (6 + 1 + 3 + 0.6), atol=1e-14, rtol=0)
    assert (step[0, 0] / 6).item() == pytest.approx(0.09434, abs=1e-5)
    # Ahn et al. (2023), theorem 3: a multiple of the inverse covariance.
    inverse = torch.linalg.inv(DENSE)
    prior = (inverse + inverse.T) / 2
    torch.testing.assert_close(best_step(DENSE, 6, weights=prior) / 6, inverse / (6 + 1 + 3), atol=1e-13, rtol=0)


def test_layers_are_preconditioned_steps():
    """Ahn et al. (2023), lemma 1: L layers against a loop over the gradient of the prompt's own loss."""
    step, rates = best_step(DENSE, 8), (1.0, 0.7, 0.4)
    episode = LinearRegression(Gaussian(3, tuple(map(tuple, DENSE.tolist())))).sample(Seed(5), 4, 8)
    prompt = episode.prompt
    answers = gradient_descent(3, 3, rates, preconditioner=step).predict(prompt)
    weights = torch.zeros(4, 3, dtype=torch.float64)
    for rate in rates:
        weights = weights.requires_grad_()
        loss = ((prompt.xs @ weights[:, :, None])[..., 0] - prompt.ys[..., 0]).square().mean(1).sum() / 2
        weights = (weights - rate * torch.autograd.grad(loss, weights)[0] @ step).detach()
    torch.testing.assert_close(answers[:, 0, 0], (weights * prompt.queries[:, 0]).sum(-1))


def test_limits_and_small_sizes():
    assert best_step_loss(DENSE, math.inf) == pytest.approx(0.0, abs=1e-14)
    torch.testing.assert_close(best_step(DENSE, math.inf), torch.linalg.inv(DENSE))
    one = torch.ones(1, 1, dtype=torch.float64)
    assert best_step(one, 1).item() == pytest.approx(1 / 3)
    fixed = torch.outer(EYE[0], EYE[0])
    assert best_step_loss(EYE, 4, weights=fixed) < best_step_loss(EYE, 4)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"covariance": torch.tensor([[1.0, 0.2], [0.0, 1.0]])}, "covariance must be symmetric"),
        ({"query": -torch.eye(2)}, "query must be positive semidefinite"),
        ({"weights": torch.eye(3)}, r"weights must be .* dim = 2; got shape \(3, 3\)"),
        ({"noise_variance": -1.0}, "noise_variance must be a finite number and not be negative"),
        ({"length": 0}, "length must be a whole number of at least 1"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_what_is_no_setting_is_refused(parts, message):
    setting = {"covariance": torch.eye(2).double(), "length": 4, **parts}
    with pytest.raises(InputError, match=message):
        step_error(torch.eye(2).double(), **setting)


def test_a_singular_prior_has_no_unique_step_at_infinite_length():
    with pytest.raises(InputError, match="weights must be positive definite"):
        best_step(EYE, math.inf, weights=torch.outer(EYE[0], EYE[0]))

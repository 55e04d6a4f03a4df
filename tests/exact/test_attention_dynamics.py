"""Flows of one layer: the decoupled integration against all entries at once, staircases against scalar equations."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import integrate

from insitu.errors import InputError
from insitu.seed import Seed
from insitu.theory.one_layer.all_blocks import Blocks, block_flow
from insitu.theory.one_layer.gradient_flow import descend, integrated
from insitu.theory.one_layer.population import Population
from insitu.theory.one_layer.saddles import (
    head_escape_time,
    head_limit,
    heads_flow,
    merged_escape_time,
    merged_share,
    plateau_losses,
    staircase,
)

DENSE = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
POPULATION = Population(DENSE, length=6)
LINE = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64) / 10
STEPS = Population(torch.diag(LINE), 31)


def grid(*times):
    return torch.tensor(times, dtype=torch.float64)


@pytest.mark.parametrize("scalar", [0.5, -0.5, 0.0])
def test_the_decoupled_flow_is_that_of_all_entries(scalar):
    """An unbalanced, unsymmetric start with u of either sign; the other road integrates all blocks by autograd."""
    matrix, times = 0.4 * Seed(1).normal(3, 3), grid(0.0, 0.5, 2.0)
    zero = torch.zeros(3, dtype=torch.float64)
    found = POPULATION.flow(matrix, torch.tensor(scalar, dtype=torch.float64), times)
    path = block_flow(POPULATION, Blocks(matrix, zero, zero, torch.tensor(scalar).double()), times)
    torch.testing.assert_close(found.matrices, torch.stack([p.matrix for p in path]), atol=1e-7, rtol=0)
    torch.testing.assert_close(found.scalars, torch.stack([p.scalar for p in path]), atol=1e-7, rtol=0)
    losses = torch.stack([POPULATION.loss(p.matrix, p.scalar) for p in path])
    torch.testing.assert_close(found.losses, losses, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.gaps[1], POPULATION.gap(path[1].matrix, path[1].scalar), atol=1e-8, rtol=0)


def test_a_large_dense_problem_is_exact_and_integrates_few_numbers(monkeypatch):
    sizes = []
    solve = integrate.solve_ivp
    monkeypatch.setattr(integrate, "solve_ivp", lambda f, t, y, **o: sizes.append(len(y)) or solve(f, t, y, **o))
    root = Seed(0).normal(64, 64)
    covariance = root @ root.T / 64 + 0.1 * torch.eye(64, dtype=torch.float64)
    population = Population((covariance + covariance.T) / 2, 128)
    begin = population.balanced_start(Seed(1).normal(64, 64), 0.5 * population.initialisation_limit())
    flow = population.flow(*begin, grid(0.0, 1.0, 1e4))
    assert sizes == [64 + 2]
    matrix, scalar = population.global_minimum()
    assert torch.linalg.matrix_norm(flow.matrices[-1] - matrix) < 1e-8 * torch.linalg.matrix_norm(matrix)
    assert flow.scalars[-1] == pytest.approx(scalar.item(), rel=1e-8)


def test_a_condition_number_of_a_hundred_million_works():
    population = Population(torch.diag(torch.logspace(-8, 0, 5, dtype=torch.float64)), 10)
    begin = population.balanced_start(torch.eye(5, dtype=torch.float64), 0.5 * population.initialisation_limit())
    flow = population.flow(*begin, grid(1.0, 1e6, 1e12, 1e19))
    matrix, _ = population.global_minimum()
    torch.testing.assert_close(flow.matrices[-1], matrix, atol=1e-9, rtol=0)
    assert (flow.gaps.diff() <= 0).all()
    # At 1e6 the smallest eigenvalue's entry has hardly moved, and the flow says so.
    assert abs(flow.matrices[1][0, 0] / matrix[0, 0] - 1) > 0.1


def test_bounds_along_the_flow():
    for place in range(4):
        shape = (Seed(3) / place).normal(3, 3)
        scale = (0.2 + 0.2 * place) * POPULATION.initialisation_limit()
        flow = POPULATION.flow(*POPULATION.balanced_start(shape, scale), torch.linspace(0, 30, 200).double())
        assert flow.scalars.min() >= POPULATION.scalar_floor(shape, scale) > 0
        rate = POPULATION.descent_constant(shape, scale)
        pairs = zip(flow.matrices, flow.scalars, strict=True)
        slopes = torch.stack([POPULATION.squared_slope(m, s) for m, s in pairs])
        assert (slopes >= rate * flow.gaps).all()
        assert (flow.gaps <= flow.gaps[0] * torch.exp(-rate * flow.times)).all()
        # A constant that is wrong by the number of orders that mu is loose would be refuted.
        assert not (slopes >= 1e6 * rate * flow.gaps).all()


def test_the_squared_slope_is_that_of_autograd():
    matrix, scalar = (0.5 * Seed(4).normal(3, 3)).requires_grad_(), torch.tensor(0.7).double().requires_grad_()
    slopes = torch.autograd.grad(POPULATION.loss(matrix, scalar), (matrix, scalar))
    expected = sum(s.square().sum() for s in slopes)
    torch.testing.assert_close(POPULATION.squared_slope(matrix, scalar), expected, atol=1e-12, rtol=0)
    gap = POPULATION.loss(matrix, scalar) - POPULATION.minimum_loss()
    torch.testing.assert_close(POPULATION.gap(matrix, scalar), gap, atol=1e-12, rtol=0)


def test_a_bound_beyond_its_limit_is_refused():
    shape = torch.eye(3, dtype=torch.float64)
    with pytest.raises(InputError, match="speaks below the scale"):
        POPULATION.scalar_floor(shape, 1.01 * POPULATION.initialisation_limit())


def test_small_steps_follow_the_flow_and_adam_reaches_the_product_only():
    begin = POPULATION.balanced_start(Seed(5).normal(3, 3), 0.4)
    steps = descend(POPULATION.loss, begin, lambda w: torch.optim.SGD(w, lr=1e-3))
    path = [next(steps) for _ in range(501)]
    flow = POPULATION.flow(*begin, grid(0.5))
    torch.testing.assert_close(path[-1][1][0], flow.matrices[0], atol=3e-3, rtol=0)
    assert path[0][0] == pytest.approx(POPULATION.loss(*begin).item())
    assert path[0][0] > path[250][0] > path[500][0]
    adam = descend(POPULATION.loss, begin, lambda w: torch.optim.Adam(w, lr=0.02))
    *_, (loss, (matrix, scalar)) = (next(adam) for _ in range(1000))
    assert loss == pytest.approx(POPULATION.minimum_loss(), rel=1e-6)
    torch.testing.assert_close(scalar * matrix, POPULATION.best_step, atol=1e-3, rtol=0)
    # Adam is no gradient flow: it does not keep u^2 - |U|^2.
    assert abs(scalar**2 - matrix.square().sum()) > 1e-3


@pytest.mark.usefixtures("as_users_run")
def test_times_and_starts_that_make_no_sense_are_refused():
    begin = POPULATION.balanced_start(torch.eye(3).double(), 0.1)
    for times in (grid(1.0, 0.5), grid(-1.0, 1.0), grid()):
        with pytest.raises(InputError, match="not be negative and ascend strictly; got "):
            POPULATION.flow(*begin, times)
    with pytest.raises(InputError, match="times must be finite; got 1 entries that are not"):
        POPULATION.flow(*begin, grid(0.0, math.inf))
    with pytest.raises(InputError, match=r"scalar must be numbers of shape \(\) \(a single number\); got shape \(2,\)"):
        POPULATION.flow(begin[0], torch.ones(2).double(), grid(1.0))
    with pytest.raises(InputError, match="matrix must be finite; got 9 entries that are not"):
        POPULATION.flow(begin[0] * math.nan, begin[1], grid(1.0))


def test_a_solution_that_is_not_finite_is_an_error_and_not_a_number(monkeypatch):
    lost = SimpleNamespace(success=True, y=np.array([[math.nan]]), message="step size is too small")
    monkeypatch.setattr(integrate, "solve_ivp", lambda *_args, **_options: lost)
    with pytest.raises(ArithmeticError, match="did not reach time 2"):
        integrated(lambda _t, y: y**2, np.array([1.0]), grid(2.0))


# Merged keys and queries.


def test_a_merged_head_on_white_inputs_is_logistic():
    population, times = Population(torch.eye(5, dtype=torch.float64), 20), torch.linspace(0, 6, 40, dtype=torch.float64)
    start = population.balanced_start(torch.eye(5, dtype=torch.float64), 1e-3)
    flow = population.flow(*start, times)
    shares = flow.scalars * flow.matrices[:, 0, 0]
    torch.testing.assert_close(merged_share(times, 5, 20, 1e-3), shares, atol=1e-9, rtol=0)
    assert merged_share(grid(1e4), 5, 20, 1e-3).item() == pytest.approx(population.best_step[0, 0].item(), rel=1e-13)
    assert (merged_share(times, 5, 21, 1e-3) - shares).abs().max() > 1e-3
    # The escape time is where the logistic curve is between its ends, to leading order in ln(1/sigma).
    escape = merged_escape_time(population, 1e-3)
    half = times[(shares > shares[-1] / 2).nonzero()[0, 0]].item()
    assert half == pytest.approx(escape, rel=0.2)


# Rank-one keys and queries.


def test_the_flow_of_heads_is_steepest_descent_on_half_the_loss():
    begin = 0.3 * Seed(6).normal(2 * (1 + 6))
    found = heads_flow(POPULATION, begin, 2, 1e-4)
    flat = begin.clone().requires_grad_()
    v, k, q = flat[:2], flat[2:8].view(2, 3), flat[8:].view(2, 3)
    product = (v[:, None] * k).T @ q
    loss = 2 * POPULATION.loss(product, torch.tensor(1.0).double())
    slope = torch.autograd.grad(loss / 2, flat)[0]
    assert found.losses[0].item() == pytest.approx(loss.item(), rel=1e-12)
    assert found.speeds[0].item() == pytest.approx(2 * slope.square().sum().item(), rel=1e-12)
    end = begin - 1e-4 * slope
    v, k, q = end[:2], end[2:8].view(2, 3), end[8:].view(2, 3)
    torch.testing.assert_close(found.products[-1], (v[:, None] * k).T @ q, atol=1e-7, rtol=0)


def test_the_staircase_has_the_plateaus_of_the_formula():
    expected = plateau_losses(STEPS)
    assert [f"{loss:.5f}" for loss in expected] == ["1.00000", "0.64058", "0.37737", "0.20980", "0.13600"]
    assert expected[-1].item() == pytest.approx(2 * STEPS.minimum_loss(), rel=1e-13)
    found = staircase(STEPS, Seed(0), heads=5, start=1e-3, horizon=4e6).plateaus()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    # A large start learns everything at once.
    assert len(staircase(STEPS, Seed(0), heads=5, start=0.5, horizon=4e6).plateaus()) < 5


def test_a_single_aligned_head_obeys_its_scalar_equation():
    size = 0.01
    east = torch.eye(4, dtype=torch.float64)[0]
    begin = torch.cat([torch.tensor([size]).double(), size * east, size * east])
    keys = STEPS.key_values.flip(0)[0].item()

    def growth(_time, v):
        return LINE[0].item() ** 2 * (v**2 - keys * v**5)

    horizon = 1.2 * head_escape_time(STEPS, size)[0].item()
    solved = integrate.solve_ivp(growth, (0, horizon), [size], rtol=1e-10, atol=1e-12, method="LSODA")
    found = heads_flow(STEPS, begin, 1, horizon)
    assert found.products[-1][0, 0].item() == pytest.approx(solved.y[0, -1] ** 3, rel=1e-5)
    assert solved.y[0, -1] == pytest.approx(head_limit(STEPS)[0].item(), rel=1e-3)

"""Every learner a second way that shares no code with it: NumPy, SciPy, scikit-learn, autograd, plain loops."""

import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF as SklearnRBF
from sklearn.gaussian_process.kernels import Matern as SklearnMatern
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression as SklearnLinear
from sklearn.linear_model import LogisticRegression as SklearnLogistic
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.neighbors import KNeighborsRegressor
from tests.examples import close

from insitu import InputError, Prompt, Seed
from insitu.errors import StepSizeWarning
from insitu.learners import (
    CausalDescent,
    ConjugateGradient,
    FinitePool,
    GaussianProcess,
    GradientDescent,
    GradientDescentPlus,
    Kaczmarz,
    KernelSmoother,
    Learner,
    LeastSquares,
    LogisticRegression,
    Mean,
    Momentum,
    NearestNeighbours,
    Nesterov,
    Newton,
    NoiseMixture,
    OnlineDescent,
    PrincipalComponents,
    RecentMean,
    RecursiveLeastSquares,
    Ridge,
    SoftmaxSmoother,
    Zero,
    bayes_optimal,
    learner,
    least_squares,
    moments,
    newton,
)
from insitu.learners import bayes as bayes_module
from insitu.learners.kernels import KERNELS
from insitu.tasks import (
    Autoregression,
    Gaussian,
    LinearClassification,
    LinearRegression,
    Pool,
    Shifted,
    SigmoidRegression,
    UniformCube,
)


def prompt_of(xs: torch.Tensor, out: int = 2, noise: float = 0.5, queries: int = 3) -> Prompt:
    """Noisy linear labels at the given inputs."""
    batch, points, dim = xs.shape
    weights = (Seed(5) / "weights").normal(batch, out, dim)
    ys = xs @ weights.mT + noise * (Seed(5) / "noise").normal(batch, points, out)
    return Prompt(xs, ys, (Seed(5) / "queries").normal(batch, queries, dim))


def gaussian(batch: int, points: int, dim: int) -> torch.Tensor:
    return (Seed(5) / "inputs").normal(batch, points, dim)


def contexts(prompt: Prompt):
    """Every prompt and every prefix of it, as NumPy arrays."""
    for b in range(prompt.batch):
        for k in range(1, prompt.points + 1):
            yield b, k, prompt.xs[b, :k].numpy(), prompt.ys[b, :k].numpy(), prompt.queries[b].numpy()


def check(predictor: Learner, prompt: Prompt, second_road, tolerance: float = 1e-9) -> None:
    """The answers at every prefix, and those to the whole prompt, are those of ``second_road(xs, ys, queries)``."""
    paths, whole = predictor.predict_prefixes(prompt).numpy(), predictor.predict(prompt).numpy()
    for b, k, xs, ys, queries in contexts(prompt):
        expected = second_road(xs, ys, queries)
        bound = tolerance * max(1, np.abs(expected).max())
        np.testing.assert_allclose(paths[b, k - 1], expected, rtol=0, atol=bound)
        if k == prompt.points:
            np.testing.assert_allclose(whole[b], expected, rtol=0, atol=bound)


def test_the_check_notices_a_difference():
    prompt = prompt_of(gaussian(2, 5, 3))
    check(Ridge(0.0), prompt, lambda xs, ys, queries: queries @ np.linalg.lstsq(xs, ys)[0])
    with pytest.raises(AssertionError, match="Max absolute difference"):
        check(Ridge(1e-7), prompt, lambda xs, ys, queries: queries @ np.linalg.lstsq(xs, ys)[0])


# Least squares.


def stretched(condition: float) -> torch.Tensor:
    """Inputs whose covariance has this condition number, in turned coordinates."""
    turn = torch.linalg.qr((Seed(5) / "turn").normal(6, 6))[0]
    return gaussian(3, 20, 6) * torch.logspace(0, -np.log10(condition) / 2, 6, dtype=torch.float64) @ turn


def starting_at_zero() -> torch.Tensor:
    xs = gaussian(3, 8, 4)
    xs[:, 0] = 0
    return xs


INPUTS = {
    "fewer points than dimensions": gaussian(3, 4, 7),
    "as many": gaussian(3, 6, 6),
    "more": gaussian(3, 25, 5),
    "one dimension": gaussian(3, 5, 1),
    "one point": gaussian(3, 1, 4),
    "more prompts than one chunk": gaussian(130, 3, 2),
    "every point twice": gaussian(3, 5, 4).repeat_interleave(2, dim=1),
    "one point only, ten times": gaussian(3, 1, 4).expand(-1, 10, -1),
    "rank 3 in 6 dimensions": gaussian(3, 15, 3) @ (Seed(5) / "basis").normal(3, 6),
    "condition 1e4": stretched(1e4),
    "condition 1e8": stretched(1e8),
    "first example all zero": starting_at_zero(),
    "tiny": 1e-6 * gaussian(3, 8, 4),
    "huge": 1e6 * gaussian(3, 8, 4),
}


@pytest.mark.parametrize("xs", INPUTS.values(), ids=INPUTS.keys())
def test_least_squares_is_that_of_numpy_at_every_prefix(xs):
    """To 1e-9 of the size of the weights."""
    prompt = prompt_of(xs)
    paths = LeastSquares().prefix_weights(prompt.xs, prompt.ys).numpy()
    whole = LeastSquares().weights(prompt.xs, prompt.ys).numpy()
    for b, k, x, y, _ in contexts(prompt):
        expected = np.linalg.lstsq(x, y)[0].T
        size = max(np.linalg.norm(expected), 1e-300)
        np.testing.assert_allclose(paths[b, k - 1] / size, expected / size, rtol=0, atol=1e-9)
        if k == prompt.points:
            np.testing.assert_allclose(whole[b] / size, expected / size, rtol=0, atol=1e-9)


def longer_precision(xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Least squares of least norm by Gram-Schmidt done twice, in NumPy's longest floats."""
    xs, ys = xs.astype(np.longdouble), ys.astype(np.longdouble)
    wide = len(xs) < xs.shape[1]
    basis = (xs.T if wide else xs).copy()
    upper = np.zeros((basis.shape[1],) * 2, np.longdouble)
    for j in range(len(upper)):
        for _ in range(2):
            inner = basis[:, :j].T @ basis[:, j]
            basis[:, j] -= basis[:, :j] @ inner
            upper[:j, j] += inner
        upper[j, j] = np.sqrt((basis[:, j] ** 2).sum())
        basis[:, j] /= upper[j, j]
    solved = ys.copy() if wide else basis.T @ ys
    order = range(len(upper)) if wide else reversed(range(len(upper)))
    factor = upper.T if wide else upper
    for i in order:
        others = slice(0, i) if wide else slice(i + 1, None)
        solved[i] = (solved[i] - factor[i, others] @ solved[others]) / factor[i, i]
    return ((basis @ solved) if wide else solved).T.astype(float)


def grows_with_the_condition(path, prompt: Prompt) -> None:
    """The error of the weights stays below 100 epsilons times the condition number of the inputs, not its square."""
    for b, k, xs, ys, _ in contexts(prompt):
        expected = longer_precision(xs, ys)
        bound = 100 * np.finfo(float).eps * np.linalg.cond(xs) * np.linalg.norm(expected)
        assert np.linalg.norm(path(prompt)[b, k - 1].numpy() - expected) < bound, (b, k)


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8, 1e12], ids="condition {:.0e}".format)
def test_the_error_of_least_squares_grows_with_the_condition_number(condition):
    prompt = prompt_of(stretched(condition))
    path = LeastSquares().prefix_weights(prompt.xs, prompt.ys)
    grows_with_the_condition(lambda p: path, prompt)


def test_normal_equations_are_rejected():
    prompt = prompt_of(stretched(1e8))
    grams, crosses = (torch.einsum("bki,bkj->bkij", t, prompt.xs).cumsum(1) for t in (prompt.xs, prompt.ys))
    path = crosses @ torch.linalg.pinv(grams, rtol=1e-15, hermitian=True)
    with pytest.raises(AssertionError):
        grows_with_the_condition(lambda p: path, prompt)


@pytest.mark.parametrize("block", [1, 2, 5])
@pytest.mark.parametrize("harmless", [0.0, 5.0, 1e3])
def test_blocks_of_any_size_give_the_same_weights(block, harmless, monkeypatch):
    prompt = prompt_of(gaussian(5, 14, 4))
    expected = [f.prefix_weights(prompt.xs, prompt.ys) for f in (LeastSquares(), Ridge(0.3))]
    monkeypatch.setattr(least_squares, "BLOCK", block)
    monkeypatch.setattr(least_squares, "HARMLESS", harmless)
    monkeypatch.setattr(least_squares, "CHUNK", 2)
    for one, weights in zip((LeastSquares(), Ridge(0.3)), expected, strict=True):
        close(one.prefix_weights(prompt.xs, prompt.ys), weights)


def test_a_prompt_with_a_repeated_example_leaves_the_others_as_they_are():
    xs = gaussian(4, 9, 5)
    xs[1, 2] = xs[1, 0]
    prompt = prompt_of(xs)
    paths = LeastSquares().prefix_weights(prompt.xs, prompt.ys)
    for b, k, x, y, _ in contexts(prompt):
        np.testing.assert_allclose(paths[b, k - 1], np.linalg.lstsq(x, y)[0].T, rtol=0, atol=1e-9)


def test_least_squares_answers_single_precision_prompts_as_exactly_as_they_can_be_told():
    prompt = prompt_of(gaussian(3, 9, 4)).to(torch.float32)
    paths = LeastSquares().predict_prefixes(prompt)
    for b, k, xs, ys, queries in contexts(prompt.to(torch.float64)):
        expected = queries @ np.linalg.lstsq(xs, ys)[0]
        np.testing.assert_allclose(paths[b, k - 1], expected, rtol=2e-7, atol=1e-7)


def test_least_squares_of_nothing_but_zeros_answers_zero():
    prompt = Prompt(torch.zeros(1, 3, 2), torch.ones(1, 3, 1), torch.ones(1, 1, 2))
    assert not LeastSquares().predict(prompt).any()
    assert not LeastSquares().predict_prefixes(prompt).any()


# Ridge.


@pytest.mark.parametrize("penalty", [1e-3, 0.7, 50.0])
@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 12, 3)], ids=str)
def test_ridge_is_that_of_sklearn_and_least_squares_on_augmented_examples(penalty, shape):
    prompt = prompt_of(gaussian(*shape))

    def by_sklearn(xs, ys, queries):
        return SklearnRidge(penalty, fit_intercept=False, solver="cholesky").fit(xs, ys).predict(queries).reshape(-1, 2)

    def by_augmentation(xs, ys, queries):
        rows = np.vstack([xs, penalty**0.5 * np.eye(xs.shape[1])])
        return queries @ np.linalg.lstsq(rows, np.vstack([ys, np.zeros((xs.shape[1], 2))]))[0]

    check(Ridge(penalty), prompt, by_sklearn)
    check(Ridge(penalty), prompt, by_augmentation)


def test_ridge_without_a_penalty_is_least_squares():
    prompt = prompt_of(gaussian(2, 8, 5))
    close(Ridge(0.0).predict_prefixes(prompt), LeastSquares().predict_prefixes(prompt))


def test_ridge_bayes_is_the_gaussian_conditional_mean():
    """E[w x_q | y] from the joint normal law of labels and answer, in kernel form."""
    noise, spread = 0.6, 1.7

    def conditional_mean(xs, ys, queries):
        labels = spread**2 * xs @ xs.T + noise**2 * np.eye(len(xs))
        return spread**2 * queries @ xs.T @ np.linalg.solve(labels, ys)

    check(Ridge.bayes(noise, spread), prompt_of(gaussian(2, 7, 4)), conditional_mean)


def test_ridge_bayes_is_the_mean_of_a_weighted_sample_of_the_prior():
    """Importance sampling from the prior, with the standard error of the ratio."""
    noise, spread = 0.8, 1.5
    prompt = prompt_of(gaussian(1, 3, 2), out=1, queries=1)
    drawn = spread * (Seed(0) / "prior").normal(200_000, 2)
    misfit = (drawn @ prompt.xs[0].T - prompt.ys[0, :, 0]).square().sum(1) / (2 * noise**2)
    share = (-misfit).softmax(0)
    answers = drawn @ prompt.queries[0, 0]
    estimate = (share * answers).sum()
    error = (share * (answers - estimate)).square().sum().sqrt()
    assert error < 0.05
    assert abs(Ridge.bayes(noise, spread).predict(prompt).item() - estimate) < 4 * error


# Descent on the whole context.

FULL = torch.tensor([[1.0, 0.3, 0.0], [0.3, 0.8, 0.1], [0.0, -0.2, 0.6]], dtype=torch.float64)
DESCENTS = {
    "no step": {"steps": 0, "rate": 0.1},
    "one rate": {"steps": 5, "rate": 0.2},
    "a rate per step": {"steps": 3, "rate": (0.3, 0.0, 0.05)},
    "diagonal": {"steps": 4, "rate": 0.2, "preconditioner": (1.0, 0.5, 0.1)},
    "full and not symmetric": {"steps": 4, "rate": 0.2, "preconditioner": FULL},
    "start": {"steps": 3, "rate": 0.2, "start": ((1.0, -2.0, 0.5), (0.0, 3.0, 1.0))},
    "all": {"steps": 2, "rate": (0.2, 0.1), "preconditioner": FULL, "start": [[1, -2, 0.5], [0, 3, 1]]},
}


@pytest.mark.parametrize("given", DESCENTS.values(), ids=DESCENTS.keys())
def test_gradient_descent_is_autograd_on_half_the_mean_square(given):
    rates = np.broadcast_to(given["rate"], given["steps"])
    matrix = torch.as_tensor(given.get("preconditioner", (1.0, 1.0, 1.0)), dtype=torch.float64)
    matrix = torch.diag(matrix) if matrix.ndim == 1 else matrix

    def descend(xs, ys, queries):
        xs, ys = torch.from_numpy(xs), torch.from_numpy(ys)
        weights = torch.tensor(given.get("start", [[0.0] * 3] * 2), dtype=torch.float64)
        for rate in rates:
            weights = weights.detach().requires_grad_()
            loss = sum((y - weights @ x).square().sum() for x, y in zip(xs, ys, strict=True)) / (2 * len(xs))
            (slope,) = torch.autograd.grad(loss, weights)
            weights = weights - rate * slope @ matrix
        return queries @ weights.detach().numpy().T

    check(GradientDescent(**given), prompt_of(gaussian(2, 6, 3)), descend)


def test_gradient_descent_takes_a_single_row_for_a_single_output():
    prompt = prompt_of(gaussian(2, 6, 3), out=1)
    row, rows = (GradientDescent(2, 0.1, start=start) for start in ((1.0, 2.0, 3.0), ((1.0, 2.0, 3.0),)))
    assert torch.equal(row.predict(prompt), rows.predict(prompt))
    assert row.predict(prompt).ne(GradientDescent(2, 0.1).predict(prompt)).all()


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 9, 3)], ids=str)
def test_newton_shrinks_every_eigenvalue_error_as_stated(steps, shape):
    """By eigenvalues: the inverse of each is (1 - (1 - v^2/F)^(2^T)) / v; and by NumPy's matrices."""

    def by_eigenvalues(xs, ys, queries):
        values, vectors = np.linalg.eigh(xs.T @ xs)
        kept = values > 1e-10 * values[-1]
        values, vectors = values[kept], vectors[:, kept]
        inverses = (1 - (1 - values**2 / (values**2).sum()) ** (2**steps)) / values
        return queries @ (vectors * inverses) @ vectors.T @ xs.T @ ys

    def by_matrices(xs, ys, queries):
        gram = xs.T @ xs
        inverse = gram / np.linalg.norm(gram) ** 2
        for _ in range(steps):
            inverse = 2 * inverse - inverse @ gram @ inverse
        return queries @ inverse @ xs.T @ ys

    check(Newton(steps), prompt_of(gaussian(*shape)), by_eigenvalues)
    check(Newton(steps), prompt_of(gaussian(*shape)), by_matrices)


@pytest.mark.parametrize("steps", [40, 2000])
@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 9, 3)], ids=str)
def test_newton_ends_at_the_pseudoinverse(steps, shape):
    check(Newton(steps), prompt_of(gaussian(*shape)), lambda xs, ys, queries: queries @ np.linalg.pinv(xs) @ ys, 1e-8)


# Descent one example at a time.


def online(rate_of, passes):
    def road(xs, ys, queries):
        weights = np.zeros((ys.shape[1], xs.shape[1]))
        for _ in range(passes):
            for j, (x, y) in enumerate(zip(xs, ys, strict=True), start=1):
                weights += rate_of(j, x) * np.outer(y - weights @ x, x)
        return queries @ weights.T

    return road


@pytest.mark.parametrize("passes", [0, 1, 2, 3])
@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_online_descent_is_the_loop_over_examples(decay, passes):
    road = online(lambda j, x: 0.1 * j**-decay, passes)
    check(OnlineDescent(0.1, decay, passes), prompt_of(gaussian(2, 7, 3)), road)


@pytest.mark.parametrize("passes", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["more", "first example all zero"])
def test_kaczmarz_is_the_loop_of_projections(name, passes):
    check(Kaczmarz(passes), prompt_of(INPUTS[name]), online(lambda j, x: 1 / (x @ x) if x.any() else 0, passes))


def test_kaczmarz_solves_the_last_example_and_many_passes_solve_all():
    prompt = prompt_of(gaussian(2, 3, 5))
    weights = Kaczmarz().weights(prompt.xs, prompt.ys)
    close(prompt.xs[:, -1:] @ weights.mT, prompt.ys[:, -1:])
    close(Kaczmarz(400).weights(prompt.xs, prompt.ys), LeastSquares().weights(prompt.xs, prompt.ys))


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_causal_descent_is_one_descent_per_place(steps):
    """The weights of every place by a loop over places, where the learner goes by residuals alone."""

    def road(xs, ys, queries):
        places = np.zeros((len(xs), ys.shape[1], xs.shape[1]))
        for _ in range(steps):
            missed = ys - np.einsum("jod,jd->jo", places, xs)
            heard = [sum(np.outer(missed[i], xs[i]) for i in range(j + 1)) for j in range(len(xs))]
            places = places + 0.4 / len(xs) * np.array(heard)
        return queries @ places[-1].T

    check(CausalDescent(steps, 0.4), prompt_of(gaussian(2, 6, 3)), road)


def test_causal_descent_begins_as_gradient_descent_and_ends_as_a_kaczmarz_pass():
    prompt = prompt_of(gaussian(3, 6, 3))
    close(CausalDescent(1, 0.4).predict(prompt), GradientDescent(1, 0.4).predict(prompt))
    close(CausalDescent(3000, 0.6).predict(prompt), Kaczmarz().predict(prompt), tolerance=1e-7)
    assert not torch.allclose(CausalDescent(2, 0.4).predict(prompt), GradientDescent(2, 0.4).predict(prompt))


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_causal_descent_per_place_is_one_descent_per_place_on_the_mean_of_its_past(steps):
    def road(xs, ys, queries):
        places = np.zeros((len(xs), ys.shape[1], xs.shape[1]))
        for _ in range(steps):
            missed = ys - np.einsum("jod,jd->jo", places, xs)
            heard = [np.mean([np.outer(missed[i], xs[i]) for i in range(j + 1)], axis=0) for j in range(len(xs))]
            places = places + 0.4 * np.array(heard)
        return queries @ places[-1].T

    check(CausalDescent(steps, 0.4, per_place=True), prompt_of(gaussian(2, 6, 3)), road)


# Momentum, conjugate gradients, GD++.


def slopes(xs, ys):
    """The gradient of half the mean square, by a loop over examples."""
    return lambda weights: -sum(np.outer(y - weights @ x, x) for x, y in zip(xs, ys, strict=True)) / len(xs)


@pytest.mark.parametrize("steps", [0, 1, 2, 9])
def test_momentum_is_the_velocity_form_of_the_heavy_ball(steps):
    def road(xs, ys, queries):
        slope, weights, velocity = slopes(xs, ys), np.zeros((2, 3)), np.zeros((2, 3))
        for _ in range(steps):
            velocity = 0.7 * velocity - 0.2 * slope(weights)
            weights = weights + velocity
        return queries @ weights.T

    check(Momentum(steps, 0.2, 0.7), prompt_of(gaussian(2, 6, 3)), road)


@pytest.mark.parametrize("steps", [0, 1, 2, 9])
def test_nesterov_is_the_velocity_form_with_the_gradient_ahead(steps):
    def road(xs, ys, queries):
        slope, weights, velocity = slopes(xs, ys), np.zeros((2, 3)), np.zeros((2, 3))
        for _ in range(steps):
            velocity = 0.7 * velocity - 0.2 * slope(weights + 0.7 * velocity)
            weights = weights + velocity
        return queries @ weights.T

    check(Nesterov(steps, 0.2, 0.7), prompt_of(gaussian(2, 6, 3)), road)


@pytest.mark.parametrize("kind", [Momentum, Nesterov])
def test_without_momentum_it_is_gradient_descent_and_with_some_it_is_not(kind):
    prompt = prompt_of(gaussian(2, 6, 3))
    plain = GradientDescent(4, 0.2).predict_prefixes(prompt)
    close(kind(4, 0.2, 0.0).predict_prefixes(prompt), plain)
    assert not torch.allclose(kind(4, 0.2, 0.3).predict_prefixes(prompt), plain)


def pseudoinverse(xs, ys, queries):
    return queries @ np.linalg.pinv(xs) @ ys


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 12])
@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 9, 3)], ids=str)
def test_conjugate_gradient_minimises_over_the_krylov_space(steps, shape):
    def road(xs, ys, queries):
        answers = []
        for labels in ys.T:
            basis = [xs.T @ labels]
            for _ in range(steps - 1):
                basis.append(xs.T @ (xs @ basis[-1]))
                basis[-1] /= np.linalg.norm(basis[-1])
            spanned = np.linalg.qr(np.array(basis).T)[0] if steps else np.zeros((xs.shape[1], 1))
            answers.append(queries @ spanned @ np.linalg.lstsq(xs @ spanned, labels)[0])
        return np.array(answers).T

    # Beyond the rank a Krylov space has no new directions but those of rounding.
    end = steps > min(shape[1:])
    check(ConjugateGradient(steps), prompt_of(gaussian(*shape)), pseudoinverse if end else road, tolerance=1e-8)


def test_conjugate_gradient_stays_where_nothing_is_left():
    prompt = prompt_of(gaussian(2, 3, 5))
    check(ConjugateGradient(500), prompt, pseudoinverse)
    nothing = Prompt(prompt.xs, 0 * prompt.ys, prompt.queries)
    assert not ConjugateGradient(3).predict(nothing).any()


@pytest.mark.parametrize("curvature", [0.0, 0.15, (0.3, 0.0, 0.1, 0.05)], ids=str)
def test_gd_plus_plus_is_layers_that_step_and_transform_their_inputs(curvature):
    """By tokens: every layer moves the labels of examples and query and maps their inputs, both from what it sees."""

    def road(xs, ys, queries):
        seen, asked = xs.copy(), queries.copy()
        residuals, answers = ys.copy(), np.zeros((len(queries), ys.shape[1]))
        for gamma in np.broadcast_to(curvature, 4):
            step, spread = residuals.T @ seen, seen.T @ seen
            residuals, answers = (
                residuals - 0.3 / len(xs) * seen @ step.T,
                answers + 0.3 / len(xs) * asked @ step.T,
            )
            seen, asked = seen - gamma / len(xs) * seen @ spread, asked - gamma / len(xs) * asked @ spread
        return answers

    check(GradientDescentPlus(4, 0.3, curvature), prompt_of(gaussian(2, 7, 3)), road)
    check(GradientDescentPlus(4, 0.3, curvature), prompt_of(gaussian(2, 3, 5)), road)


@pytest.mark.parametrize(
    "one",
    [GradientDescent(5, 0.2), Momentum(5, 0.2, 0.6), Nesterov(5, 0.2, 0.6), ConjugateGradient(3), Newton(5)],
    ids=repr,
)
@pytest.mark.parametrize("shape", [(3, 4, 6), (3, 9, 3)], ids=str)
def test_prefix_iterates_are_the_weights_after_fewer_steps(one, shape):
    prompt = prompt_of(gaussian(*shape))
    paths = one.prefix_iterates(prompt.xs, prompt.ys)
    assert paths.shape == (3, shape[1], one.steps + 1, 2, shape[2])
    for steps in range(one.steps + 1):
        close(paths[:, :, steps], replace(one, steps=steps).prefix_weights(prompt.xs, prompt.ys))


def test_iterates_of_newton_by_products_are_those_by_the_formula(monkeypatch):
    prompt = prompt_of(torch.cat([gaussian(3, 5, 6), gaussian(3, 5, 6).flip(1)], dim=1))
    products = Newton(12).prefix_iterates(prompt.xs, prompt.ys)
    monkeypatch.setattr(newton, "PRODUCTS", 0)
    close(Newton(12).prefix_iterates(prompt.xs, prompt.ys), products)


def test_blocks_of_prefixes_do_not_change_what_is_learned(monkeypatch):
    prompt = prompt_of(gaussian(5, 9, 3))
    expected = GradientDescent(5, 0.2).prefix_weights(prompt.xs, prompt.ys)
    for block in (1, 40, 100):
        monkeypatch.setattr(moments, "BLOCK", block)
        close(GradientDescent(5, 0.2).prefix_weights(prompt.xs, prompt.ys), expected)


# Intercepts, priors, forgetting, principal components.


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 12, 3), (2, 1, 3)], ids=str)
def test_an_intercept_is_that_of_sklearn(shape):
    """Also far from the origin, where without one nothing would fit."""
    prompt = prompt_of(gaussian(*shape))
    far = Prompt(prompt.xs + 7, prompt.ys - 30, prompt.queries + 7)

    def squares(xs, ys, queries):
        return SklearnLinear().fit(xs, ys).predict(queries)

    def ridge(xs, ys, queries):
        return SklearnRidge(0.7, solver="svd").fit(xs, ys).predict(queries).reshape(-1, 2)

    check(LeastSquares(intercept=True), far, squares)
    check(Ridge(0.7, intercept=True), far, ridge)
    close(Ridge(0.0, intercept=True).predict_prefixes(far), LeastSquares(intercept=True).predict_prefixes(far))
    with pytest.raises(AssertionError):
        check(Ridge(0.7), far, ridge)


def test_an_intercept_of_gradient_descent_is_an_input_that_is_always_one():
    prompt = prompt_of(gaussian(2, 6, 3))
    more = Prompt(
        *(torch.cat([t, torch.ones_like(t[..., :1])], -1) if t is not prompt.ys else t for t in vars(prompt).values())
    )
    close(
        GradientDescent(4, 0.2, intercept=True).predict_prefixes(prompt), GradientDescent(4, 0.2).predict_prefixes(more)
    )


PRIOR = ((2.0, 1.0, 0.0), (1.0, 2.0, -0.5), (0.0, -0.5, 1.0))


@pytest.mark.parametrize("covariance", [PRIOR, (0.5, 2.0, 4.0)], ids=["full", "diagonal"])
def test_ridge_with_a_prior_covariance_is_the_gaussian_conditional_mean(covariance):
    spread = np.array(covariance) if np.ndim(covariance) == 2 else np.diag(covariance)

    def conditional_mean(xs, ys, queries):
        labels = xs @ spread @ xs.T + 0.36 * np.eye(len(xs))
        return queries @ spread @ xs.T @ np.linalg.solve(labels, ys)

    check(Ridge(0.36, covariance), prompt_of(gaussian(2, 7, 3)), conditional_mean)


def test_a_prior_covariance_of_one_is_ridge_and_one_without_a_direction_leaves_it_out():
    prompt = prompt_of(gaussian(2, 7, 3))
    close(Ridge(0.3, (1.0, 1.0, 1.0)).predict_prefixes(prompt), Ridge(0.3).predict_prefixes(prompt))
    assert Ridge(0.3, (1.0, 0.0, 1.0)).weights(prompt.xs, prompt.ys)[..., 1].abs().max() < 1e-12


def test_a_penalty_per_example_grows_with_the_prompt():
    def road(xs, ys, queries):
        return (
            SklearnRidge(0.2 * len(xs), fit_intercept=False, solver="svd").fit(xs, ys).predict(queries).reshape(-1, 2)
        )

    def with_intercept(xs, ys, queries):
        return SklearnRidge(0.2 * len(xs), solver="svd").fit(xs, ys).predict(queries).reshape(-1, 2)

    prompt = prompt_of(gaussian(2, 8, 3))
    check(Ridge(0.2, per_example=True), prompt, road)
    check(Ridge(0.2, per_example=True, intercept=True), prompt, with_intercept)
    with pytest.raises(AssertionError):
        check(Ridge(0.2), prompt, road)


@pytest.mark.parametrize("forgetting", [1.0, 0.9, 0.3])
def test_recursive_least_squares_is_the_textbook_recursion(forgetting):
    """By the inverse correlation matrix and the gain vector; and, with all remembered, ridge."""

    def road(xs, ys, queries):
        inverse, weights = np.eye(xs.shape[1]) / 0.5, np.zeros((ys.shape[1], xs.shape[1]))
        for x, y in zip(xs, ys, strict=True):
            gain = inverse @ x / (forgetting + x @ inverse @ x)
            weights += np.outer(y - weights @ x, gain)
            inverse = (inverse - np.outer(gain, x @ inverse)) / forgetting
        return queries @ weights.T

    for shape in ((2, 33, 3), (2, 5, 7)):
        check(RecursiveLeastSquares(forgetting, 0.5), prompt_of(gaussian(*shape)), road)
    prompt = prompt_of(gaussian(2, 8, 3))
    close(RecursiveLeastSquares(1.0, 0.5).predict_prefixes(prompt), Ridge(0.5).predict_prefixes(prompt))


@pytest.mark.parametrize("k", [1, 2, 9])
@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 9, 3)], ids=str)
def test_principal_component_regression_is_least_squares_on_the_leading_scores(k, shape):
    def road(xs, ys, queries):
        _, axes = np.linalg.eigh(xs.T @ xs)
        leading = axes[:, ::-1][:, : min(k, *xs.shape)]
        return queries @ leading @ np.linalg.lstsq(xs @ leading, ys)[0]

    check(PrincipalComponents(k), prompt_of(gaussian(*shape)), road)


# Gaussian processes, and Bayes under an unknown noise level.


@pytest.mark.parametrize("name", KERNELS)
def test_a_gaussian_process_is_that_of_sklearn_and_kernel_ridge(name):
    """Kernels by scikit-learn, and its own regressor."""
    kernel = SklearnRBF(1.3) if name == "rbf" else SklearnMatern(1.3, nu=float(name[7]) / 2)

    def regressor(xs, ys, queries):
        model = GaussianProcessRegressor(kernel, alpha=0.2, optimizer=None)
        return model.fit(xs, ys).predict(queries).reshape(-1, 2)

    def kernel_ridge(xs, ys, queries):
        return kernel(queries, xs) @ KernelRidge(0.2, kernel="precomputed").fit(kernel(xs), ys).dual_coef_

    check(GaussianProcess(1.3, 0.2, name), prompt_of(gaussian(2, 7, 3)), regressor)
    check(GaussianProcess(1.3, 0.2, name), prompt_of(INPUTS["every point twice"]), kernel_ridge)


def test_a_gaussian_process_with_a_singular_kernel_matrix_says_so():
    with pytest.raises(InputError, match="penalty 1e-300 the kernel matrix of some prompt is singular"):
        GaussianProcess(1.0, 1e-300).predict(prompt_of(INPUTS["every point twice"]))


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_softmax_smoother_is_the_explicit_average(scale):
    def road(xs, ys, queries):
        weights = [np.array([np.exp(scale * x @ query) for x in xs]) for query in queries]
        return np.array([w @ ys / w.sum() for w in weights])

    check(SoftmaxSmoother(scale), prompt_of(gaussian(2, 7, 3)), road)


def test_softmax_smoother_on_a_sphere_is_a_kernel_smoother():
    prompt = prompt_of(torch.nn.functional.normalize(gaussian(2, 7, 3), dim=-1))
    close(SoftmaxSmoother(4.0).predict_prefixes(prompt), KernelSmoother(0.5).predict_prefixes(prompt))
    assert not torch.allclose(SoftmaxSmoother(4.0).predict(prompt), KernelSmoother(0.6).predict(prompt))


@pytest.mark.parametrize("probabilities", [None, (3.0, 1.0, 0.5)])
def test_a_noise_mixture_weighs_ridges_by_the_density_of_the_labels(probabilities):
    levels, spread = (0.2, 1.0, 4.0), 1.3

    def road(xs, ys, queries):
        logs, answers = [], []
        for noise in levels:
            law = stats.multivariate_normal(cov=spread**2 * xs @ xs.T + noise**2 * np.eye(len(xs)))
            logs.append(sum(law.logpdf(labels) for labels in ys.T))
            ridge = SklearnRidge((noise / spread) ** 2, fit_intercept=False, solver="svd").fit(xs, ys)
            answers.append(ridge.predict(queries).reshape(-1, 2))
        logs = np.array(logs) + np.log(probabilities or np.ones(3))
        return np.tensordot(np.exp(logs - logsumexp(logs)), np.array(answers), 1)

    check(NoiseMixture(levels, spread, probabilities), prompt_of(gaussian(2, 7, 3)), road)


def test_a_noise_mixture_of_one_level_is_ridge_and_one_of_two_finds_the_level():
    prompt = prompt_of(gaussian(2, 60, 3), noise=0.5)
    ridge = Ridge.bayes(0.5, 2.0).predict_prefixes(prompt)
    close(NoiseMixture((0.5,), 2.0).predict_prefixes(prompt), ridge)
    close(NoiseMixture((0.5, 5.0), 2.0).predict_prefixes(prompt)[:, -1], ridge[:, -1], tolerance=1e-6)
    assert not torch.allclose(NoiseMixture((0.5, 5.0), 2.0).predict_prefixes(prompt)[:, 0], ridge[:, 0])


# Averages of labels.


@pytest.mark.parametrize("k", [1, 3, 50])
def test_nearest_neighbours_are_those_of_sklearn(k):
    def road(xs, ys, queries):
        return KNeighborsRegressor(min(k, len(xs)), algorithm="brute").fit(xs, ys).predict(queries)

    check(NearestNeighbours(k), prompt_of(gaussian(2, 8, 3)), road)


@pytest.mark.parametrize("bandwidth", [0.4, 2.0])
def test_kernel_smoother_is_the_explicit_average(bandwidth):
    def road(xs, ys, queries):
        answers = []
        for query in queries:
            kernel = np.array([np.exp(-((x - query) ** 2).sum() / (2 * bandwidth**2)) for x in xs])
            answers.append(sum(k * y for k, y in zip(kernel, ys, strict=True)) / kernel.sum())
        return np.array(answers)

    check(KernelSmoother(bandwidth), prompt_of(gaussian(2, 7, 3)), road)


def test_kernel_smoother_answers_a_far_query_with_the_nearest_label():
    prompt = prompt_of(gaussian(2, 7, 3))
    far = Prompt(prompt.xs, prompt.ys, 1e4 * prompt.queries)
    smoother, nearest = KernelSmoother(0.1), NearestNeighbours(1)
    close(smoother.predict(far), nearest.predict(far))
    close(smoother.predict_prefixes(far), nearest.predict_prefixes(far))


def test_zero_and_mean():
    prompt = prompt_of(gaussian(2, 7, 3))
    check(Zero(), prompt, lambda xs, ys, queries: np.zeros((len(queries), 2)))
    check(Mean(), prompt, lambda xs, ys, queries: np.tile(ys.mean(0), (len(queries), 1)))


@pytest.mark.parametrize("forgetting", [0.0, 0.6, 1.0])
def test_the_recent_mean_is_numpys_weighted_average(forgetting):
    def road(xs, ys, queries):
        shares = [forgetting ** (len(ys) - 1 - i) for i in range(len(ys))]
        return np.tile(np.average(ys, axis=0, weights=shares), (len(queries), 1))

    check(RecentMean(forgetting), prompt_of(gaussian(2, 5, 3)), road)


# Bayes for a finite pool.


def posterior_mean(pool, noise):
    def road(xs, ys, queries):
        logs = np.array([-sum(((y - w @ x) ** 2).sum() for x, y in zip(xs, ys, strict=True)) for w in pool])
        logs = logs / (2 * noise**2)
        share = np.exp(logs - logsumexp(logs))
        return sum(p * queries @ w.T for p, w in zip(share, pool, strict=True))

    return road


@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_finite_pool_is_bayes_by_the_book(size, noise):
    pool = (Seed(1) / "pool").normal(size, 2, 3)
    check(FinitePool(weights_of=pool, noise=noise), prompt_of(gaussian(2, 8, 3)), posterior_mean(pool.numpy(), noise))


def test_finite_pool_in_chunks_is_finite_pool(monkeypatch):
    prompt = prompt_of(gaussian(5, 4, 3))
    one = FinitePool(weights_of=(Seed(1) / "pool").normal(3, 2, 3), noise=0.5)
    expected = one.predict_prefixes(prompt), one.predict(prompt)
    monkeypatch.setattr(bayes_module, "CHUNK", 12)
    close(one.predict_prefixes(prompt), expected[0])
    close(one.predict(prompt), expected[1])


def test_finite_pool_chooses_the_nearest_where_every_likelihood_underflows():
    pool = (Seed(1) / "pool").normal(5, 2, 3)
    prompt = prompt_of(100 * gaussian(2, 8, 3))
    misfit = [((prompt.ys[0, 0] - w @ prompt.xs[0, 0]) ** 2).sum() / (2 * 0.01**2) for w in pool]
    assert not np.exp(-np.array(misfit)).any()
    check(FinitePool(weights_of=pool, noise=0.01), prompt, posterior_mean(pool.numpy(), 0.01))


def test_finite_pool_takes_rows_of_numbers_for_one_output():
    prompt = prompt_of(gaussian(2, 8, 2), out=1)
    flat, full = FinitePool([[1, 0], [0, 1]], noise=1.0), FinitePool([[[1, 0]], [[0, 1]]], noise=1.0)
    assert torch.equal(flat.predict(prompt), full.predict(prompt))


# Logistic regression.


def classes(points: int = 12, flip: float = 0.2, scale: float = 1.0) -> Prompt:
    task = Shifted(LinearClassification(Gaussian(3), out=3, flip=flip), scale=scale)
    return task.sample(Seed(0) / "classes", batch=3, points=points, queries=4).prompt


def test_logistic_regression_is_that_of_sklearn():
    compared = 0

    for penalty in (0.05, 2.0):
        paths = LogisticRegression(penalty).predict_prefixes(classes())
        for b, k, xs, ys, queries in contexts(classes()):
            if ys.any(0).all():
                model = SklearnLogistic(C=1 / penalty, fit_intercept=False, tol=1e-10, max_iter=10_000)
                expected = model.fit(xs, ys.argmax(1)).predict_proba(queries)
                np.testing.assert_allclose(paths[b, k - 1], expected, atol=1e-6)
                compared += 1
    assert compared > 20


def slope_at(odds_logits: np.ndarray, xs: np.ndarray, ys: np.ndarray, weights: np.ndarray, penalty: float):
    odds = np.exp(odds_logits - logsumexp(odds_logits, axis=1, keepdims=True))
    return (odds - ys).T @ xs + penalty * weights


@pytest.mark.parametrize("penalty", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_logistic_regression_ends_where_the_gradient_is_zero(penalty, scale):
    """Also for separable examples (no flips), at every prefix; weights are read off the log odds at unit queries.

    At the optimum the weights of the classes add up to zero in every coordinate.
    """
    drawn = classes(flip=0.0, scale=scale)
    units = torch.cat([torch.eye(3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)])
    weak = Prompt(drawn.xs, drawn.ys, (units * 1e-2 / scale).expand(3, -1, -1))
    paths = LogisticRegression(penalty).predict_prefixes(weak)
    for b, k, xs, ys, _ in contexts(weak):
        logs = np.log(paths[b, k - 1].numpy())
        weights = (logs - logs.mean(1, keepdims=True))[:3].T * 100 * scale
        slope = slope_at(xs @ weights.T, xs, ys, weights, penalty)
        assert np.abs(slope).max() < 1e-6 * np.abs(xs).sum()


# Warnings at the step-size limit.


@pytest.mark.parametrize("matrix", [None, (1.0, 0.5, 0.1), FULL], ids=["identity", "diagonal", "full"])
def test_gradient_descent_warns_beyond_its_limit_and_not_below(matrix):
    prompt = prompt_of(gaussian(3, 6, 3))
    full = np.eye(3) if matrix is None else np.diag(matrix) if isinstance(matrix, tuple) else matrix.numpy()
    largest = max(np.linalg.eigvals(full @ (xs.T @ xs) / 6).real.max() for xs in prompt.xs.numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GradientDescent(2, 0.999 * 2 / largest, preconditioner=matrix).predict(prompt)
    with pytest.warns(StepSizeWarning, match=f"{2 / largest:.4g}"):
        GradientDescent(2, 1.001 * 2 / largest, preconditioner=matrix).predict(prompt)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_online_descent_warns_beyond_its_limit_and_not_below(decay):
    prompt = prompt_of(gaussian(3, 6, 3))
    limit = min(2 * (j + 1) ** decay / (x @ x) for xs in prompt.xs.numpy() for j, x in enumerate(xs))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OnlineDescent(0.999 * limit, decay).predict(prompt)
    with pytest.warns(StepSizeWarning, match=f"{limit:.4g}"):
        OnlineDescent(1.001 * limit, decay).predict(prompt)


def test_the_limit_is_where_descent_turns_from_converging_to_diverging():
    prompt = prompt_of(gaussian(1, 6, 3))
    limit = 2 / np.linalg.eigvalsh((prompt.xs[0].T @ prompt.xs[0] / 6).numpy()).max()
    near = [GradientDescent(steps, 0.98 * limit).predict(prompt) for steps in (1, 2000)]
    goal = LeastSquares().predict(prompt)
    assert (near[1] - goal).abs().max() < 1e-6
    with pytest.warns(StepSizeWarning):
        beyond = GradientDescent(2000, 1.02 * limit).predict(prompt)
    assert (beyond - goal).abs().max() > 1e6


# Wrong parameters.


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Ridge(-1.0), "Ridge: penalty must be a finite number and not be negative; got -1.0"),
        (lambda: Ridge(float("nan")), "penalty"),
        (lambda: Ridge(float("inf")), "penalty"),
        (lambda: Ridge(True), "penalty"),
        (lambda: Ridge(10**400), "penalty"),
        (lambda: Ridge("1"), "penalty"),
        (lambda: Ridge.bayes(-1.0), "Ridge.bayes: noise"),
        (lambda: Ridge.bayes(1.0, 0.0), "Ridge.bayes: weight_std must be a finite number and be positive"),
        (lambda: Ridge(1.0, intercept="no"), "Ridge: intercept must be true or false"),
        (lambda: Ridge(1.0, per_example=1), "per_example"),
        (lambda: Ridge(1.0, covariance=2.0), "Ridge: covariance must be numbers or rows"),
        (lambda: LeastSquares(1), "LeastSquares: intercept"),
        (lambda: RecentMean(1.5), "forgetting must lie between 0 and 1; got 1.5"),
        (lambda: RecursiveLeastSquares(0.0, 1.0), "forgetting must be a finite number and be positive; got 0.0"),
        (lambda: RecursiveLeastSquares(1.1, 1.0), "forgetting must be at most 1; got 1.1"),
        (lambda: RecursiveLeastSquares(0.9, 0.0), "penalty"),
        (lambda: PrincipalComponents(0), "PrincipalComponents: k must be a whole number of at least 1; got 0"),
        (lambda: GradientDescentPlus(2, 0.1, (0.1,)), "2 steps need 2 curvatures or a single one; got 1"),
        (lambda: GradientDescentPlus(2, 0.1, -0.1), "curvature"),
        (lambda: Momentum(2, 0.1, -0.5), "Momentum: momentum"),
        (lambda: Nesterov(2, -0.1, 0.5), "Nesterov: rate"),
        (lambda: ConjugateGradient(-1), "ConjugateGradient: steps"),
        (lambda: CausalDescent(1, 0.1, per_place="yes"), "CausalDescent: per_place"),
        (lambda: GaussianProcess(0.0, 1.0), "length_scale"),
        (lambda: GaussianProcess(1.0, 0.0), "penalty"),
        (
            lambda: GaussianProcess(1.0, 1.0, "cosine"),
            "'rbf', 'matern-1/2', 'matern-3/2' or 'matern-5/2'; got 'cosine'",
        ),
        (lambda: SoftmaxSmoother(-1.0), "scale"),
        (lambda: NoiseMixture(()), "at least one noise level"),
        (lambda: NoiseMixture((0.1, 0.0)), "noises"),
        (lambda: NoiseMixture((0.1, 0.2), 1.0, (1.0,)), "as many probabilities"),
        (lambda: LogisticRegression(0.0), "penalty"),
        (lambda: KernelSmoother(0.0), "bandwidth"),
        (lambda: NearestNeighbours(0), "NearestNeighbours: k must be a whole number of at least 1; got 0"),
        (lambda: NearestNeighbours(True), "whole number"),
        (lambda: NearestNeighbours(2.0), "whole number"),
        (lambda: Newton(-1), "steps"),
        (lambda: Kaczmarz(-1), "passes"),
        (lambda: OnlineDescent(-0.1), "rate"),
        (lambda: OnlineDescent(0.1, decay=-1.0), "decay"),
        (lambda: GradientDescent(-1, 0.1), "steps"),
        (lambda: GradientDescent(1, -0.1), "rate"),
        (lambda: GradientDescent(1, True), "rate"),
        (lambda: GradientDescent(1, None), "rate"),
        (lambda: GradientDescent(2, (0.1, float("nan"))), "rate"),
        (lambda: GradientDescent(3, (0.1, 0.2)), "3 steps need 3 rates or a single one; got 2"),
        (lambda: GradientDescent(1, "a"), "rate must be a finite number"),
        (lambda: GradientDescent(1, 0.1, preconditioner="ab"), "preconditioner must be numbers"),
        (lambda: GradientDescent(1, 0.1, start=3.0), "start must be numbers"),
        (lambda: FinitePool([[1.0]], noise=0.0), "noise"),
        (lambda: FinitePool([], noise=1.0), "at least one"),
        (lambda: FinitePool([[None]], noise=1.0), "weights_of must be numbers"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_learners_refuse_what_they_cannot_use(make, match):
    with pytest.raises(InputError, match=match):
        make()


@pytest.mark.parametrize(
    "wrong",
    [
        GradientDescent(1, 0.1, preconditioner=(1.0, 2.0)),
        GradientDescent(1, 0.1, preconditioner=((1.0, 2.0, 3.0),)),
        GradientDescent(1, 0.1, start=(1.0, 2.0, 3.0)),
        GradientDescent(1, 0.1, start=((1.0, 2.0, 3.0), (1.0, 2.0))),
        GradientDescent(1, 0.1, start=((1.0, 2.0, 3.0), (1.0, 2.0, float("inf")))),
        FinitePool([[1.0, 2.0, 3.0]], noise=1.0),
        Ridge(1.0, covariance=(1.0, 2.0)),
        Ridge(1.0, covariance=((1.0, 2.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))),
        Ridge(1.0, covariance=(1.0, -2.0, 1.0)),
    ],
    ids=repr,
)
def test_learners_refuse_prompts_that_their_matrices_do_not_fit(wrong):
    with pytest.raises(InputError, match=r"preconditioner|start|weights_of|covariance"):
        wrong.predict(prompt_of(gaussian(2, 4, 3)))


# Learners as text.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Zero()", Zero()),
        (" Ridge( 0.25 ) ", Ridge(0.25)),
        ("Ridge(penalty=1e-3)", Ridge(0.001)),
        ("GradientDescent(2, rate=(0.1, 0.2))", GradientDescent(2, (0.1, 0.2))),
        ("GradientDescent(1, 0.1, start=((1, -2),))", GradientDescent(1, 0.1, start=((1.0, -2.0),))),
        ("FinitePool([[1, 0]], noise=2)", FinitePool([[1.0, 0.0]], noise=2)),
    ],
)
def test_a_learner_is_read_from_text(text, expected):
    assert learner(text) == expected


class Evaluated(Exception):
    """Raised by an expression that was run."""


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "Ridge(__import__('os').getpid())",
        "Ridge(penalty=open('/etc/passwd'))",
        "Ridge([x for x in (1,)][0])",
        "(lambda: Ridge(1))()",
        "Ridge.bayes(1.0)",
        "Ridge(1.0).predict()",
        "Ridge(*(1.0,))",
        "Ridge(penalty=1, penalty=2)",
        "Ridge(f'{1}')",
        "Ridge(penalty=1); Zero()",
        "Ridge(2**0.5)",
        "Ridge",
        "1.0",
        "",
        "Ridge(",
        "Ridge(1\x00)",
        "(" * 300,
        "-" * 5000 + "1",
    ],
    ids=lambda text: text[:30],
)
@pytest.mark.usefixtures("as_users_run")
def test_what_is_no_call_with_numbers_is_refused_and_not_run(text, monkeypatch):
    def forbidden(*given, **named):
        raise Evaluated(given)

    for place in ("os.system", "os.getpid", "builtins.open", "builtins.eval", "builtins.exec"):
        monkeypatch.setattr(place, forbidden)
    with pytest.raises(InputError, match="is not a learner"):
        learner(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Rigde(1.0)", "no learner is called 'Rigde'; did you mean Ridge"),
        ("Xyzzy()", "there are: CausalDescent, ConjugateGradient, FinitePool, GaussianProcess"),
        ("Learner()", "no learner is called"),
        ("print('x')", "no learner is called 'print'"),
        ("Ridge(lambda_=1.0)", "does not fit Ridge; its parameters are: penalty"),
        ("Ridge()", "its parameters are: penalty"),
        ("Ridge(1, (1.0,), False, False, 2)", "its parameters are: penalty, covariance, intercept, per_example"),
        ("Zero(1)", "it has no parameters"),
        ("Ridge(**{'penalty': 1})", "its parameters are: penalty"),
        ("Ridge(penalty=-1)", "must be a finite number and not be negative"),
        ("Ridge(penalty='a')", "must be a finite number"),
        ("GradientDescent(1, 'a')", "rate must be a finite number"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_a_name_or_a_parameter_that_is_none_is_told_what_there_is(text, match):
    with pytest.raises(InputError, match=match):
        learner(text)


# Optimal learners.

NOISY = LinearRegression(Gaussian(3), weights=Gaussian(3, covariance_of=4.0), noise=0.5)
POOL = Pool(NOISY, size=5, seed=Seed(3))
UNEVEN = LinearRegression(Gaussian(3), weights=Gaussian(3, covariance_of=(0.1, 1.0, 9.0)), noise=0.5)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (NOISY, Ridge(0.0625)),
        (LinearRegression(Gaussian(3)), LeastSquares()),
        (POOL, FinitePool(POOL.members(), noise=0.5)),
        (UNEVEN, Ridge(0.25, covariance=((0.1, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 9.0)))),
        (Shifted(NOISY, scale=3.0, order="reversed"), Ridge(0.0625)),
        (Autoregression(4), LeastSquares()),
    ],
    ids=["noisy", "clean", "pool", "uneven", "shifted", "sequence"],
)
def test_the_optimal_learner_of_a_task(task, expected):
    assert bayes_optimal(task) == expected


@pytest.mark.parametrize("task", [NOISY, POOL, UNEVEN], ids=["linear", "pool", "uneven"])
def test_the_optimal_learner_beats_its_neighbours_on_the_same_prompts(task):
    episode = task.sample(Seed(0) / "risk", batch=4000, points=4)

    def loss(predictor: Learner) -> np.ndarray:
        return (predictor.predict(episode.prompt) - episode.answers).square().flatten().numpy()

    others = [Zero(), Mean(), LeastSquares(), Ridge(0.5), Ridge(0.01), FinitePool(POOL.members(), noise=2.0)]
    best = loss(bayes_optimal(task))
    for other in others:
        gap = loss(other) - best
        assert gap.mean() > 2 * gap.std() / len(gap) ** 0.5, other


@pytest.mark.parametrize(
    "task",
    [
        LinearRegression(Gaussian(3), weights=UniformCube(3), noise=0.5),
        LinearRegression(Gaussian(3), weights=Gaussian(3, shift=1.0), noise=0.5),
        Pool(LinearRegression(Gaussian(3)), size=2, seed=Seed(0)),
        Shifted(NOISY, noise=0.5),
        SigmoidRegression(Gaussian(3)),
    ],
    ids=["weights in a cube", "shifted weights", "pool without noise", "shifted noise", "sigmoid"],
)
def test_a_task_without_a_known_optimal_learner_says_so(task):
    with pytest.raises(InputError):
        bayes_optimal(task)


def test_prefix_answers_of_a_sequence_of_learners_are_refined_by_every_example():
    """A positive control of the prefix checks: with clean labels the error falls to zero at n = d."""
    prompt = prompt_of(gaussian(50, 5, 4), noise=0.0)
    goal = prompt.queries @ (Seed(5) / "weights").normal(50, 2, 4).mT
    errors = (LeastSquares().predict_prefixes(prompt) - goal[:, None]).square().mean((0, 2, 3))
    assert all(later < earlier for earlier, later in pairwise(errors[:4].tolist()))
    assert errors[3] < 1e-9 < errors[2]

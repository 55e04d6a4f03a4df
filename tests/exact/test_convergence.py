"""Where deep linear attention goes and how fast, against loops over layers, eigenvalues and Monte Carlo."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from tests.examples import close

from insitu import InputError, Seed
from insitu.learners import LeastSquares
from insitu.models import Causal, gradient_descent
from insitu.prompt import Prompt
from insitu.theory.convergence import (
    best_rate,
    causal_error,
    contraction,
    error_step,
    gaussian_inverse_square,
    layers_needed,
    normalised_causal_error,
    place_iterates,
    shrink_and_project,
    stationary_weights,
    step_limit,
    uniform_inverse_square,
)

VARIANTS = ("prefix", "causal", "normalised")
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def examples(batch: int = 3, points: int = 6, dim: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs of sizes between 0.7 and 1.3, so that everything converges in some hundred layers, and noisy labels."""
    place = Seed(2) / "convergence"
    xs = (place / "xs").normal(batch, points, dim)
    xs = xs / xs.norm(dim=-1, keepdim=True) * (0.7 + 0.6 * (place / "sizes").uniform(batch, points, 1))
    ys = xs @ (place / "w").normal(batch, 2, dim).mT + 0.3 * (place / "noise").normal(batch, points, 2)
    return xs, ys


def layer_by_layer(xs: np.ndarray, ys: np.ndarray, rate: float, layers: int, variant: str) -> np.ndarray:
    """The weights of one prompt at every place, before the first layer and after each, from the definition."""
    points = len(xs)
    size = np.arange(1, points + 1) if variant == "normalised" else np.full(points, points)
    sees = np.ones((points, points)) if variant == "prefix" else np.tri(points)
    weights = np.zeros((points, ys.shape[1], xs.shape[1]))
    path = [weights]
    for _ in range(layers):
        pulls = np.einsum("ko,kd->kod", ys - np.einsum("kod,kd->ko", weights, xs), xs)
        weights = weights + rate * np.einsum("jk,kod->jod", sees, pulls) / size[:, None, None]
        path.append(weights)
    return np.array(path)


def step_matrix(xs: np.ndarray, rate: float, variant: str) -> np.ndarray:
    """What multiplies the error at every layer, entry by entry."""
    points, dim = xs.shape
    if variant == "prefix":
        return np.eye(dim) - rate * sum(np.outer(x, x) for x in xs) / points
    size = dim if variant == "prefix" else points
    step = np.eye(size)
    for i in range(points):
        for j in range(i, points):
            step[i, j] -= rate * xs[i] @ xs[j] / (j + 1 if variant == "normalised" else points)
    return step


@every_variant
def test_many_layers_end_at_the_stationary_weights(variant):
    xs, ys = examples()
    ends = stationary_weights(xs, ys, variant)
    for b, rate in enumerate((0.7 * step_limit(xs, variant)).tolist()):
        last = layer_by_layer(xs[b].numpy(), ys[b].numpy(), rate, 2000, variant)[-1]
        np.testing.assert_allclose(ends[b], last, atol=1e-9)


def test_the_stationary_weights_are_least_squares_kaczmarz_and_shrink_and_project():
    xs, ys = examples()
    ends = {variant: stationary_weights(xs, ys, variant).numpy() for variant in VARIANTS}
    for b in range(3):
        fitted = np.linalg.lstsq(xs[b].numpy(), ys[b].numpy())[0].T
        projected = shrunk = np.zeros((2, 3))
        for j, (x, y) in enumerate(zip(xs[b].numpy(), ys[b].numpy(), strict=True)):
            projected = projected + np.outer(y - projected @ x, x) / (x @ x)
            shrunk = shrunk * j / (j + 1)
            shrunk = shrunk + np.outer(y - shrunk @ x, x) / (x @ x)
            np.testing.assert_allclose(ends["prefix"][b, j], fitted, atol=1e-10)
            np.testing.assert_allclose(ends["causal"][b, j], projected, atol=1e-10)
            np.testing.assert_allclose(ends["normalised"][b, j], shrunk, atol=1e-10)
            np.testing.assert_allclose(shrink_and_project(xs, ys)[b, j], shrunk, atol=1e-10)


def test_a_zero_input_has_no_causal_fixed_point():
    xs, ys = examples()
    xs[1, 2] = 0
    for variant in ("causal", "normalised"):
        with pytest.raises(InputError, match="x = 0"):
            stationary_weights(xs, ys, variant)


@pytest.mark.parametrize("normalised", [False, True], ids=["eta/n", "eta/j"])
@pytest.mark.parametrize("started", [False, True], ids=["from zero", "started"])
def test_place_iterates_are_what_the_constructed_network_answers_and_the_loop_finds(normalised, started):
    xs, ys = examples()
    start = (Seed(2) / "start").normal(2, 3) if started else None
    path = place_iterates(xs, ys, 0.4, 5, normalised=normalised, start=start)
    network = gradient_descent(
        3, 5, 0.4, out=2, mask=Causal(), normaliser="visible" if normalised else "context", start=start
    ).requires_grad_(False)
    queries = torch.eye(3, dtype=torch.float64).expand(3, -1, -1)
    close(network.predict_layers(Prompt(xs, ys, queries)).mT, path[:, :, -1], tolerance=1e-12)
    if not started:
        for b in range(3):
            loop = layer_by_layer(xs[b].numpy(), ys[b].numpy(), 0.4, 5, "normalised" if normalised else "causal")
            np.testing.assert_allclose(path[:, b], loop, atol=1e-12)


@every_variant
@pytest.mark.parametrize("rate", [0.3, 1.0, 2.5])
def test_contraction_is_the_spectral_radius_of_the_error_step(variant, rate):
    xs, _ = examples()
    for b in range(3):
        expected = step_matrix(xs[b].numpy(), rate, variant)
        np.testing.assert_allclose(error_step(xs, rate, variant)[b], expected, atol=1e-12)
        radius = np.abs(np.linalg.eigvals(expected)).max()
        assert contraction(xs, rate, variant)[b].item() == pytest.approx(radius, abs=1e-6)


RANK_DEFICIENT = {
    "fewer points than dimensions": examples(points=2)[0],
    "one point twice": examples(points=1)[0].expand(-1, 2, -1),
    "every point twice": examples(points=2)[0].repeat_interleave(2, dim=1),
    "rank 2 in 3 dimensions": examples(points=6, dim=2)[0] @ (Seed(2) / "basis").normal(2, 3),
}


@pytest.mark.parametrize("xs", RANK_DEFICIENT.values(), ids=RANK_DEFICIENT.keys())
def test_contraction_and_best_rate_of_a_rank_deficient_context_leave_out_the_zeros(xs):
    for b in range(3):
        values = np.linalg.eigvalsh(xs[b].numpy().T @ xs[b].numpy()) / xs.shape[1]
        values = values[values > 1e-12]
        assert contraction(xs, 0.3, "prefix")[b].item() == pytest.approx(np.abs(1 - 0.3 * values).max(), abs=1e-9)
        assert best_rate(xs)[b].item() == pytest.approx(2 / (values.max() + values.min()), rel=1e-9)


@pytest.mark.parametrize("xs", RANK_DEFICIENT.values(), ids=RANK_DEFICIENT.keys())
def test_layers_needed_in_a_rank_deficient_context(xs):
    ys = xs @ (Seed(2) / "w").normal(3, 2, 3).mT
    steps_through_layers(xs, ys, 0.5 * step_limit(xs, "prefix").min().item(), 1e-6, "prefix")


@every_variant
def test_just_below_the_step_limit_layers_converge_and_just_above_they_diverge(variant):
    xs, ys = examples()
    ends = stationary_weights(xs, ys, variant).numpy()
    for b, limit in enumerate(step_limit(xs, variant).tolist()):
        below, above = (
            np.abs(layer_by_layer(xs[b].numpy(), ys[b].numpy(), share * limit, 1500, variant)[-1] - ends[b]).max()
            for share in (0.98, 1.02)
        )
        assert below < 1e-6
        assert above > 1e6


def test_the_best_rate_contracts_most_among_many():
    xs, _ = examples()
    best = best_rate(xs)
    for b in range(3):
        values = np.linalg.eigvalsh(xs[b].numpy().T @ xs[b].numpy()) / 6
        rates = np.linspace(0.01, 2, 2001) * best[b].item()
        scan = np.abs(1 - rates[:, None] * values).max(1)
        at_best = np.abs(1 - best[b].item() * values).max()
        assert at_best <= scan.min() + 1e-12
        assert rates[scan.argmin()] == pytest.approx(best[b].item(), rel=2e-3)


def steps_through_layers(xs, ys, rate: float, tolerance: float, variant: str) -> list[int]:
    needed = layers_needed(xs, ys, rate, tolerance, variant).tolist()
    ends = stationary_weights(xs, ys, variant).numpy()
    for b, depth in enumerate(needed):
        path = layer_by_layer(xs[b].numpy(), ys[b].numpy(), rate, depth + 50, variant)[:, -1]
        inside = np.sqrt(((path - ends[b, -1]) ** 2).sum((1, 2))) <= tolerance
        assert inside.argmax() == depth
        assert inside[depth:].all()
    return needed


@every_variant
@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-8])
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_layers_needed_are_those_that_stepping_finds(variant, tolerance, share):
    xs, ys = examples()
    ys = ys * torch.tensor([1.0, 10.0, 100.0])[:, None, None]
    needed = steps_through_layers(xs, ys, share * step_limit(xs, variant).min().item(), tolerance, variant)
    assert len(set(needed)) > 1


def test_stepping_rejects_a_count_off_by_one(monkeypatch):
    monkeypatch.setitem(globals(), "layers_needed", lambda *given: layers_needed_and_one(*given))
    xs, ys = examples()
    with pytest.raises(AssertionError):
        steps_through_layers(xs, ys, 0.5, 1e-3, "causal")


def layers_needed_and_one(*given, honest=layers_needed):
    return honest(*given) + 1


@every_variant
def test_no_layer_is_needed_where_the_start_is_near_enough(variant):
    xs, ys = examples()
    assert layers_needed(xs, ys, 0.1, 1e6, variant).tolist() == [0, 0, 0]


@every_variant
def test_layers_needed_refuses_a_rate_that_never_converges(variant):
    xs, ys = examples()
    limit = step_limit(xs, variant).min()
    with pytest.raises(InputError, match=f"the limit is {limit:.4g}"):
        layers_needed(xs, ys, 1.01 * limit.item(), 1e-3, variant)


# Expected errors.


def cube(place: Seed, batch: int, points: int, dim: int) -> np.ndarray:
    return (2 * place.uniform(batch, points, dim) - 1).numpy()


def normal(place: Seed, batch: int, points: int, dim: int) -> np.ndarray:
    return place.normal(batch, points, dim).numpy()


@pytest.mark.parametrize("noise", [0.0, 0.7])
@pytest.mark.parametrize(
    ("draw", "second_moment", "inverse_square"),
    [(cube, 1 / 3, uniform_inverse_square(5)), (normal, 1.0, gaussian_inverse_square(5))],
    ids=["cube", "gaussian"],
)
@pytest.mark.parametrize("formula", [causal_error, normalised_causal_error], ids=lambda f: f.__name__)
def test_expected_errors_are_those_of_many_prompts(formula, draw, second_moment, inverse_square, noise):
    """Each n within 4.5 standard errors; a formula without its noise term is not."""
    dim, points, batch = 5, 10, 40_000
    place = Seed(0) / formula.__name__ / draw.__name__
    xs, queries = draw(place / "xs", batch, points, dim), draw(place / "queries", batch, points, dim)
    truth = normal(place / "w", batch, 1, dim)[:, 0]
    ys = np.einsum("bd,bkd->bk", truth, xs) + noise * (place / "noise").normal(batch, points).numpy()
    expected = formula(dim, points, second_moment=second_moment, noise=noise, inverse_square=inverse_square).numpy()
    weights = np.zeros((batch, dim))
    deviations = []
    for j in range(points):
        x, y = xs[:, j], ys[:, j]
        if formula is normalised_causal_error:
            weights = weights * j / (j + 1)
        weights = weights + ((y - (weights * x).sum(1)) / (x * x).sum(1))[:, None] * x
        errors = ((weights - truth) * queries[:, j]).sum(1) ** 2
        deviations.append((errors.mean() - expected[j]) / (errors.std() / batch**0.5))
    assert np.abs(deviations).max() < 4.5
    if noise:
        silent = formula(dim, points, second_moment=second_moment).numpy()
        assert np.abs(expected - silent).max() > 0.1 * expected.max()


def test_without_noise_the_normalised_error_falls_like_the_stated_inverse_square():
    dim, points = 6, 20_000
    last = normalised_causal_error(dim, points, second_moment=0.5)[-1].item()
    assert last * points**2 == pytest.approx(0.5 * dim * (dim - 1) * (2 * dim - 1), rel=2e-2)


@pytest.mark.parametrize("dim", [3, 6, 16])
def test_uniform_inverse_square_is_a_bounded_mean_over_a_face(dim):
    """Split by the largest coordinate: E|x|^-2 = d/(d-2) E 1/(1+|u|^2) with u uniform in d-1 dimensions."""
    u = (Seed(0) / "face" / dim).uniform(100_000, dim - 1)
    sampled = dim / (dim - 2) / (1 + u.square().sum(1))
    error = sampled.std().item() / len(sampled) ** 0.5
    assert abs(uniform_inverse_square(dim) - sampled.mean().item()) < 4 * error
    if dim == 3:
        face = integrate.dblquad(lambda a, b: 3 / (1 + a * a + b * b), 0, 1, 0, 1)[0]
        assert uniform_inverse_square(3) == pytest.approx(face, rel=1e-9)


@pytest.mark.parametrize("dim", [3, 6, 16])
def test_gaussian_inverse_square_is_that_of_scipys_chi_square(dim):
    expected = stats.chi2(dim).expect(lambda v: 1 / v)
    assert gaussian_inverse_square(dim) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("expectation", [uniform_inverse_square, gaussian_inverse_square])
def test_the_inverse_square_is_infinite_below_three_dimensions(expectation):
    with pytest.raises(InputError, match="at least 3"):
        expectation(2)


def test_the_prefix_fixed_point_is_the_learner():
    xs, ys = examples()
    close(stationary_weights(xs, ys, "prefix")[:, 0], LeastSquares().weights(xs, ys))

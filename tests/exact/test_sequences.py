"""Theory of autoregressive sequences against sampled ones, autograd, plain sums, and what is known of its minima."""

import math

import numpy as np
import pytest
import torch

from insitu.errors import InputError
from insitu.seed import Seed
from insitu.tasks import Autoregression, conjugate_pairs, orbit
from insitu.theory.sequences.diagonal_heads import DiagonalHeads, HeadWeights
from insitu.theory.sequences.free_heads import FreeLayer, LayerWeights
from insitu.theory.sequences.gradient_step import SequenceStep
from insitu.theory.sequences.head_minima import descend, hessian, minima, random_heads
from insitu.theory.sequences.lagged_query import relaxed_minimum
from insitu.theory.sequences.position_attention import Positions, arc_moments, sample_moments


def commuting(context, dim, length, count, seed):
    """Sequences of length + 1 entries as powers of sampled eigenvalues, without any code of the library."""
    angles = 2 * np.pi * (seed / "angles").uniform(count, dim // 2 if context == "orthogonal" else dim).numpy()
    values = np.exp(1j * angles)
    if context == "orthogonal":
        values = np.stack([values, values.conj()], -1).reshape(count, dim)
    return values[:, None, :] ** np.arange(length + 1)[None, :, None]


def heads_of(problem, heads, seed, scale=0.7):
    drawn = random_heads(problem, heads, seed, 1, scale)
    return HeadWeights(drawn.keys[0], drawn.values[0], drawn.positions[0])


def sampled_losses(problem, heads, count, seed):
    """The loss at every length by the sum over t and h as it is defined, with its standard error."""
    s = commuting(problem.context, problem.dim, problem.length, count, seed)
    keys, values, positions = (part.numpy() for part in (heads.keys, heads.values, heads.positions))
    found = []
    for length in range(2, problem.length + 1):
        answer = np.zeros((count, problem.dim), dtype=complex)
        for t in range(length):
            for a, b in zip(keys, values, strict=True):
                score = (s[:, t] * a * s[:, length - 2].conj()).sum(-1)
                answer += positions[length - 2, t] * score[:, None] * b * s[:, t]
        found.append((np.abs(answer - s[:, length]) ** 2).sum(-1))
    losses = np.stack(found)
    return losses.mean(1), losses.std(1) / math.sqrt(count)


@pytest.mark.parametrize(("context", "dim"), [("unitary", 3), ("orthogonal", 4)])
def test_the_loss_of_diagonal_heads_is_that_of_sampled_sequences(context, dim):
    problem = DiagonalHeads(dim, 5, context)
    heads = heads_of(problem, 2, Seed(3))
    exact = problem.losses(heads.merged, heads.positions).numpy()
    mean, error = sampled_losses(problem, heads, 60_000, Seed(4))
    assert (np.abs(mean - exact) < 4 * error).all()
    # The released loss for independent eigenvalues counts the diagonal entry twice.
    released = exact + (heads.positions.diagonal(0) ** 2 * heads.merged.square().sum()).numpy()
    assert (np.abs(mean - released) > 4 * error).any()


@pytest.mark.parametrize("context", ["unitary", "orthogonal"])
def test_the_gradient_of_diagonal_heads_by_autograd(context):
    problem = DiagonalHeads(6, 7, context)
    heads = random_heads(problem, 3, Seed(0), 2, 0.7)
    parts = [part.clone().requires_grad_() for part in (heads.keys, heads.values, heads.positions)]
    slopes = torch.autograd.grad(problem.loss(HeadWeights(*parts)).sum(), parts)
    found = problem.gradient(heads)
    for slope, formula in zip(slopes, (found.keys, found.values, found.positions), strict=True):
        torch.testing.assert_close(formula, slope, rtol=0, atol=1e-12)


def test_the_gradient_sees_nothing_beyond_the_superdiagonal():
    problem = DiagonalHeads(4, 6)
    heads = heads_of(problem, 2, Seed(1))
    leaking = HeadWeights(heads.keys, heads.values, heads.positions + torch.ones(5, 6).double().triu(2))
    assert problem.loss(leaking) == problem.loss(heads)
    assert problem.gradient(leaking).positions.triu(2).abs().max() == 0


@pytest.mark.parametrize("context", ["unitary", "orthogonal"])
def test_best_positions_have_no_gradient_and_no_better_neighbours(context):
    problem = DiagonalHeads(4, 6, context)
    merged = Seed(5).normal(4, 4)
    best = problem.best_positions(merged).requires_grad_()
    least = problem.losses(merged, best).sum()
    (slope,) = torch.autograd.grad(least, best)
    assert slope.tril(1).abs().max() < 1e-12
    for place in range(5):
        assert problem.losses(merged, best + 0.1 * (Seed(6) / place).normal(5, 6)).sum() > least
    assert problem.best_positions(torch.zeros(4, 4).double()).abs().max() == 0


@pytest.mark.parametrize(("rho", "scale"), [(0.0, 1.0), (0.4, -2.0), (-0.5, 0.3), (1.0, 1.3)])
def test_the_family_answers_exactly(rho, scale):
    problem = DiagonalHeads(4, 7, "orthogonal")
    heads = problem.family(rho, scale)
    assert problem.loss(heads) < 1e-28
    assert torch.linalg.matrix_rank(heads.merged) == (2 if rho == 1 else 4)
    s = torch.from_numpy(commuting("orthogonal", 4, 7, 5, Seed(8)))
    torch.testing.assert_close(problem.predict(heads, s[:, :-1]), s[:, 2:], rtol=0, atol=1e-12)
    slip = HeadWeights(heads.keys, heads.values, heads.positions.triu(1))
    assert rho == 0 or problem.loss(slip) > 0.1


def test_the_family_answers_real_rotations_in_their_conjugate_coordinates():
    """Real sequences, their complex coordinates and the recurrence on planes say the same."""
    episode = Autoregression(6).sample(Seed(0), batch=4, points=7)
    problem = DiagonalHeads(6, 8, "orthogonal")
    sequence = torch.cat([episode.prompt.xs, episode.prompt.queries], dim=1)
    for rho in (0.0, 0.3, 1.0):
        answers = problem.predict(problem.family(rho), conjugate_pairs(sequence))
        torch.testing.assert_close(answers[:, -1:], conjugate_pairs(episode.answers), rtol=0, atol=1e-12)


def test_the_family_is_independent_of_the_phase_of_the_start():
    problem = DiagonalHeads(3, 5)
    turns = torch.exp(1j * (Seed(0) / "turns").uniform(4, 3)).diag_embed()
    sequence = orbit(turns, torch.exp(1j * Seed(1).uniform(3)), 6)
    answers = problem.predict(problem.family(), sequence[:, :-1])
    torch.testing.assert_close(answers, sequence[:, 2:], rtol=0, atol=1e-12)


def test_the_valley_falls_for_ever():
    problem = DiagonalHeads(6, 7, "orthogonal")
    losses = [problem.loss(problem.valley(lean)).item() for lean in (10.0, 100.0, 1000.0)]
    assert losses[0] > 50 * losses[1] > 2500 * losses[2] > 0
    heads = problem.valley(10.0)
    mean, error = sampled_losses(problem, heads, 20_000, Seed(1))
    assert (np.abs(mean - problem.losses(heads.merged, heads.positions).numpy()) < 4 * error + 1e-9).all()


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_independent_eigenvalues_have_no_other_minimum(heads):
    problem = DiagonalHeads(4, 5)
    for found in minima(problem, heads, Seed(heads), starts=3):
        assert found.kind == "global"
        assert found.loss == pytest.approx(4 - heads, abs=1e-9)
        assert found.stray < 1e-5
        assert found.mixing < 1e-5
        torch.testing.assert_close(found.applied @ found.applied, found.applied, rtol=0, atol=1e-5)


def test_more_heads_than_eigenvalues_mix():
    assert all(found.mixing > 0.05 for found in minima(DiagonalHeads(4, 5), 6, Seed(0), starts=3))


def test_minima_of_pairs_are_classified():
    problem = DiagonalHeads(6, 7, "orthogonal")
    many = minima(problem, 6, Seed(0), starts=2)
    assert all(f.kind == "global" and abs(f.ratio + f.rho / (1 + f.rho)) < 1e-8 for f in many)
    assert max(f.rho for f in many) - min(f.rho for f in many) > 0.05
    few = minima(problem, 4, Seed(0), starts=6)
    assert {"global", "escaping"} <= {f.kind for f in few}
    assert all(abs(f.ratio + 0.5) < 1e-8 and abs(f.rho - 1) < 1e-6 for f in few if f.kind == "global")
    too_few = minima(problem, 1, Seed(0), starts=3)
    assert {f.kind for f in too_few} == {"global", "local"}
    assert min(f.loss for f in too_few) == pytest.approx(problem.minimum(1))


def test_a_local_minimum_is_certified_by_the_hessian_of_autograd():
    problem = DiagonalHeads(4, 4, "orthogonal")
    found = next(f for f in minima(problem, 1, Seed(0), starts=12) if f.kind == "local")
    flat = torch.cat([found.heads.keys.flatten(), found.heads.values.flatten(), found.heads.positions.flatten()])

    def loss(x):
        return problem.loss(HeadWeights(x[:4].view(1, 4), x[4:8].view(1, 4), x[8:].view(3, 4)))

    exact = torch.autograd.functional.hessian(loss, flat)
    assert torch.linalg.eigvalsh(exact)[0] > -1e-7
    seen = torch.cat([torch.ones(8, dtype=torch.bool), torch.ones(3, 4, dtype=torch.bool).tril(1).flatten()])
    torch.testing.assert_close(hessian(problem, flat[seen]), exact[seen][:, seen], rtol=0, atol=1e-6)


def test_descent_is_a_loop_of_steps():
    problem = DiagonalHeads(4, 5)
    start = random_heads(problem, 4, Seed(0), 2)
    heads, losses = descend(problem, start, rate=0.02, steps=3, record=2)
    parts = [part.clone().requires_grad_() for part in (start.keys, start.values, start.positions)]
    for _ in range(3):
        slopes = torch.autograd.grad(problem.loss(HeadWeights(*parts)).sum(), parts)
        parts = [(p - 0.02 * g).detach().requires_grad_() for p, g in zip(parts, slopes, strict=True)]
    torch.testing.assert_close(heads.positions, parts[2].detach())
    assert losses.shape == (3, 2)
    torch.testing.assert_close(losses[-1], problem.loss(heads))


@pytest.mark.parametrize(("context", "dim"), [("unitary", 3), ("orthogonal", 4)])
def test_one_step_has_the_loss_of_sampled_sequences(context, dim):
    s = commuting(context, dim, 9, 40_000, Seed(2))
    theory = SequenceStep(dim, 9)
    for rate in (0.5 * theory.best_rate, theory.best_rate):
        exact = theory.losses(rate).numpy()
        moment = np.cumsum(s[:, 1:-1, :, None] * s[:, :-2, None, :].conj(), axis=1)
        errors = (np.abs(rate * np.einsum("ntij,ntj->nti", moment, s[:, 1:-1]) - s[:, 2:]) ** 2).sum(-1)
        assert (np.abs(errors.mean(0) - exact) < 4 * errors.std(0) / 200 + 1e-12).all()


@pytest.mark.parametrize("form", ["matrix", "eigenvalues"])
def test_best_rates_are_where_the_slope_vanishes(form):
    theory = SequenceStep(5, 12, form)
    rates = torch.full((11,), 0.07, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(theory.losses(rates).sum(), rates)
    assert theory.gradient(0.07) == pytest.approx(slopes.sum().item(), rel=1e-12)
    assert theory.gradient(theory.best_rate) == pytest.approx(0, abs=1e-10)
    m = np.arange(1, 12)
    noise = 4 if form == "matrix" else 0
    assert theory.minimum == pytest.approx(5 * (11 - m.sum() ** 2 / ((m**2).sum() + noise * m.sum())), rel=1e-12)
    torch.testing.assert_close(theory.losses(theory.best_rates), theory.minima)
    assert (theory.losses(theory.best_rates + 0.01) > theory.minima).all()


def test_the_finite_rates_are_those_of_the_paper_in_the_limit():
    for form in ("matrix", "eigenvalues"):
        theory = SequenceStep(3, 100_000, form)
        assert theory.asymptotic_rate == pytest.approx(3 / 200_000)
        assert theory.best_rate == pytest.approx(theory.asymptotic_rate, rel=1e-4)
        assert theory.minimum / (3 * (theory.length - 1)) == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize(("context", "dim", "length"), [("unitary", 2, 4), ("orthogonal", 2, 5), ("orthogonal", 4, 3)])
def test_a_free_layer_has_the_loss_of_sampled_sequences(context, dim, length):
    layer = FreeLayer(dim, length, context)
    weights = LayerWeights(0.3 * Seed(0).normal(2, 2 * dim, 2 * dim), 0.3 * Seed(1).normal(2, dim, 2 * dim))
    if context == "unitary":
        s = torch.from_numpy(commuting(context, dim, length, 40_000, Seed(2)))
    else:
        matrices = Autoregression(dim).matrices(Seed(2), 40_000)
        s = orbit(matrices, torch.ones(dim, dtype=torch.float64), length + 1)
    tokens = torch.cat([s, torch.cat([torch.zeros_like(s[:, :1]), s[:, :-1]], 1)], -1)
    exact = layer.losses(weights)
    for end in range(2, length + 1):
        answer = 0.0
        for score, value in zip(weights.scores.to(s), weights.values.to(s), strict=True):
            for t in range(end):
                weight = (tokens[:, t].conj() * (tokens[:, end - 1] @ score.T)).sum(-1, keepdim=True)
                answer = answer + weight * (tokens[:, t] @ value.T)
        errors = (answer - s[:, end]).abs().square().sum(-1)
        assert abs(errors.mean() - exact[end - 2]) < 4 * errors.std() / 200


def test_a_free_layer_that_takes_a_step_has_the_loss_of_the_step():
    for context, dim in (("unitary", 1), ("unitary", 2), ("orthogonal", 2)):
        torch.testing.assert_close(
            FreeLayer(dim, 6, context).losses(FreeLayer(dim, 6, context).step(0.13)), SequenceStep(dim, 6).losses(0.13)
        )


def test_freedom_helps_from_two_dimensions_on():
    one = FreeLayer(1, 5)
    assert one.loss(one.minimise(1, Seed(0), starts=2)).item() == pytest.approx(SequenceStep(1, 5).minimum, abs=1e-9)
    two = FreeLayer(2, 5, "orthogonal")
    losses = [two.loss(two.minimise(1, Seed(0), starts=2, blocks=blocks)).item() for blocks in ("step", "all")]
    assert SequenceStep(2, 5).minimum > losses[0] + 0.1 > losses[1] + 0.2
    kept = two.minimise(1, Seed(0), starts=1, blocks="step")
    assert kept.scores[:, :2].abs().max() == kept.scores[:, :, 2:].abs().max() == kept.values[..., 2:].abs().max() == 0


def test_what_a_query_can_reach_by_least_squares_on_samples():
    """The relaxed minimum against free coefficients fitted to sampled eigenvalues."""
    for context, lag in (("unitary", 0), ("unitary", 1), ("orthogonal", 0), ("orthogonal", 1)):
        s = commuting(context, 4, 5, 20_000, Seed(1))
        # Sequence length 5; coordinate 0.
        columns = (s[:, 4 - lag, None].conj() * s[:, :5] * s[:, :5, :1]).reshape(len(s), -1)
        stacked = np.concatenate([columns.real, columns.imag])
        target = np.concatenate([s[:, 5, 0].real, s[:, 5, 0].imag])
        weights, *_ = np.linalg.lstsq(stacked, target, rcond=None)
        rest = ((stacked @ weights - target) ** 2).sum() / len(s)
        assert rest == pytest.approx(relaxed_minimum(4, 5, context, lag), abs=0.01)


def test_arc_moments_by_sums_and_the_loss_of_positions_by_sequences():
    angles = 2 * np.pi / 7 * (np.arange(20_000) + 0.5) / 20_000
    sums = [np.cos(k * angles).mean() for k in range(13)]
    np.testing.assert_allclose(arc_moments(6, 7.0), sums, atol=1e-6)
    drawn = torch.from_numpy(angles)
    np.testing.assert_allclose(sample_moments(6, drawn), sums, atol=1e-12)
    task = Positions(sample_moments(6, drawn))
    positions = Seed(0).normal(5, 6)
    s = np.exp(1j * angles)[:, None] ** np.arange(7)
    for row in range(5):
        answer = (positions[row, : row + 2].numpy() * s[:, row, None].conj() * s[:, : row + 2] ** 2).sum(-1)
        expected = (np.abs(answer - s[:, row + 2]) ** 2).mean()
        assert task.losses(positions)[row].item() == pytest.approx(expected, rel=1e-10)


def test_descent_on_positions_follows_autograd_and_stops():
    task = Positions(arc_moments(8, 20.0))
    at = Seed(0).normal(7, 8).requires_grad_()
    (slope,) = torch.autograd.grad(task.losses(at).sum(), at)
    torch.testing.assert_close(task.gradient(at.detach()), slope, rtol=0, atol=1e-12)
    found = task.descend(rate=0.5, stop=1e-2, most=1000)
    assert found.losses[-1] < 1e-2 <= found.losses[-2]
    assert found.positions.triu(2).abs().max() == 0
    assert task.descend(rate=0.5, stop=0.0, most=5).steps == 5
    last = torch.zeros(7, 8, dtype=torch.float64)
    last[torch.arange(7), torch.arange(1, 8)] = 1
    assert task.losses(last).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: DiagonalHeads(3, 5, "orthogonal"), "even dim; got 3"),
        (lambda: DiagonalHeads(4, 1), "at least 2; got 1"),
        (lambda: DiagonalHeads(4, 5, "haar"), "unitary.*orthogonal"),
        (lambda: DiagonalHeads(4, 5).family(rho=0.5), "rho=0.5"),
        (lambda: DiagonalHeads(4, 5, "orthogonal").family(rho=-1.0), "rho=-1.0"),
        (lambda: DiagonalHeads(4, 5).valley(3.0), "conjugate pairs"),
        (lambda: DiagonalHeads(4, 5).losses(torch.ones(3, 3), torch.ones(4, 5)), r"dim = 4; got shape \(3, 3\)"),
        (lambda: DiagonalHeads(4, 5).predict(DiagonalHeads(4, 5).family(), torch.ones(1, 4, 4)), r"\(batch, 5, 4\)"),
        (lambda: minima(DiagonalHeads(4, 5), 0, Seed(0)), "heads"),
        (lambda: descend(DiagonalHeads(4, 5), DiagonalHeads(4, 5).family(), -1.0, 3), "rate"),
        (lambda: SequenceStep(2, 1), "length"),
        (lambda: SequenceStep(2, 5, "scalar"), "matrix.*eigenvalues"),
        (lambda: FreeLayer(3, 5, "orthogonal"), "even dim"),
        (lambda: FreeLayer(4, 8), "Take a smaller"),
        (lambda: FreeLayer(2, 4).minimise(0, Seed(0)), "heads"),
        (lambda: relaxed_minimum(4, 5, lag=5), "below the length 5"),
        (lambda: Positions(torch.ones(4)), "odd number"),
        (lambda: arc_moments(1, 1.0), "length"),
        (lambda: sample_moments(4, torch.empty(0)), "no angle"),
        (lambda: Positions(arc_moments(4, 2.0)).descend(0.0, 1.0, 5), "rate"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_theory_refuses_what_it_cannot_use(make, match):
    with pytest.raises(InputError, match=match):
        make()

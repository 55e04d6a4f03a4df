"""Every family answers as the learner that it names, at one place or swept over many."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize
from tests.examples import close

from insitu import Prompt, Seed
from insitu.identification import Answered, preconditioners
from insitu.identification import family as family_module
from insitu.identification import fitting as fitting_module
from insitu.identification.diagnostics import Plan, diagnostic_prompts
from insitu.identification.directions import towards
from insitu.identification.evidence import gather
from insitu.identification.families import FAMILIES, LevelsFamily, LogisticFamily
from insitu.identification.fitting import FamilyProblem, find, gauss_newton, one_by_one, worth
from insitu.identification.interval import shortest
from insitu.identification.local_families import NeighbourFamily, ProcessFamily
from insitu.identification.objective import Objective
from insitu.identification.ordered_families import ForgettingFamily
from insitu.identification.preconditioners import MatrixFit, RatesFit, StartFit, matrix_fits, rate_fits, start_fits
from insitu.identification.scoring import predicted
from insitu.identification.spectra import PromptView
from insitu.identification.spectral_families import AcceleratedFamily, DescentFamily, RidgeFamily
from insitu.learners import GradientDescent, Learner, Momentum, Nesterov, NoiseMixture, Ridge
from insitu.tasks import Gaussian, LinearRegression

pytestmark = pytest.mark.filterwarnings("ignore::insitu.errors.StepSizeWarning")
LENGTHS = (2, 4, 11)


def prompt_of(points: int, batch: int = 5, noise: float = 0.3, seed: int = 0) -> Prompt:
    task = LinearRegression(Gaussian(4), noise=noise, out=2)
    return task.sample(Seed(seed) / points, batch, points, 3).prompt


def name(family: object) -> str:
    return repr(family)


def places(family, view):
    """A few values of the free numbers, spread over the grid."""
    grids = [free.grid(view) for free in family.free]
    return (
        [tuple(grid[int(share * (len(grid) - 1))] for grid in grids) for share in (0.3, 0.5, 0.62)] if grids else [()]
    )


@pytest.mark.parametrize("points", LENGTHS)
@pytest.mark.parametrize("family", [f for f in FAMILIES if not isinstance(f, LogisticFamily)], ids=name)
def test_a_family_answers_as_its_learner(family, points):
    view = PromptView(prompt_of(points))
    counts = sorted({*list(family.counts(view))[:3], list(family.counts(view))[-1]})
    many = places(family, view)
    for count, swept in zip(counts, family.sweep(view, many, counts), strict=True):
        for place, answers in zip(many, swept, strict=True):
            truth = predicted(family.learner(count, place), view.prompt)
            scale = truth.abs().max().clamp(min=1).item()
            if math.isfinite(scale) and scale < 1e6:
                close(answers, truth, tolerance=1e-9 * scale)
                close(family.answers(view, count, place), truth, tolerance=1e-9 * scale)


@pytest.mark.parametrize("family", [ProcessFamily("rbf"), ForgettingFamily()], ids=name)
def test_many_places_are_worked_out_a_few_at_a_time(family, monkeypatch):
    view = PromptView(prompt_of(11))
    many = places(family, view)
    (whole,) = family.sweep(view, many, (0,))
    monkeypatch.setattr(family_module, "TOGETHER", 1)
    (parts,) = family.sweep(view, many, (0,))
    close(parts, whole, tolerance=1e-13 * whole.abs().max().item())


def test_classes_are_answered_by_logistic_regression():
    family = LogisticFamily()
    prompt = prompt_of(11)
    labels = torch.nn.functional.one_hot(prompt.ys.argmax(-1), 2).double()
    view = PromptView(Prompt(prompt.xs, labels, prompt.queries))
    close(family.answers(view, 0, (0.4,)), family.learner(0, (0.4,)).predict(view.prompt))


def fitting_of(learner: Learner, noise: float = 0.0, batch: int = 60, seed: int = 0):
    prompts = [prompt_of(points, batch, seed=seed) for points in LENGTHS]
    noises = [noise * (Seed(9) / seed / p.points).normal(p.batch, 3, 2) for p in prompts]
    whole = gather([Answered(p, predicted(learner, p) + n) for p, n in zip(prompts, noises, strict=True)])
    return whole.half(fitting=True)


def test_the_search_is_no_worse_than_scipys():
    """The rate of five steps on answers that no rate gives exactly, found by another library."""
    fitting = fitting_of(Ridge(penalty=0.8))
    found = find(FamilyProblem(DescentFamily(), Objective(fitting)), Objective(fitting))
    problem = FamilyProblem(DescentFamily(), Objective(fitting))

    def loss(logarithm: float) -> float:
        return problem.residual(5, torch.tensor([logarithm]).double()).square().sum().item()

    theirs = optimize.minimize_scalar(loss, bounds=(-6, 1), method="bounded")
    assert found.loss <= theirs.fun * (1 + 1e-6)
    ours = problem.refined(5, (0.2,))
    assert ours[1] == pytest.approx(theirs.fun, rel=1e-5)


def test_gauss_newton_agrees_with_scipy_and_never_climbs():
    goal = np.array([1.3, -0.4, 2.0])
    grid = np.linspace(0, 1, 30)

    def residual(place):
        a, b, c = place
        t = torch.as_tensor(grid)
        return a * torch.exp(b * t) + c * t - torch.as_tensor(goal[0] * np.exp(goal[1] * grid) + np.sin(9 * grid))

    def slopes(place):
        return torch.autograd.functional.jacobian(residual, place)

    start = torch.tensor([0.5, 0.5, 0.5]).double()
    place, loss = gauss_newton(*one_by_one(residual, slopes), start)
    theirs = optimize.least_squares(lambda p: residual(torch.as_tensor(p)).numpy(), start.numpy())
    assert loss == pytest.approx(2 * theirs.cost, rel=1e-5)
    assert loss <= residual(start).square().sum().item()
    close(place, torch.as_tensor(theirs.x), tolerance=1e-3)


def test_a_step_that_goes_too_far_is_halved_until_the_loss_falls():
    """Newton's iteration for the arctangent leaps from one side to the other, farther each time, beyond 1.39."""
    looked = []

    def look(place):
        looked.append(place.item())
        return place.atan(), lambda: 1 / (1 + place[:, None].square())

    def losses(places):
        return [at.atan().item() ** 2 for at in places.flatten()]

    place, loss = gauss_newton(look, losses, torch.tensor([20.0]).double())
    assert abs(place.item()) < 1e-6
    assert loss == place.atan().item() ** 2
    # Of the halved steps the longest that ends nearer to zero.
    first = 20 - math.atan(20) * 401
    assert looked[1] == pytest.approx(first)
    halved = [20 - math.atan(20) * 401 / 2**k for k in range(1, 8)]
    assert looked[2] == pytest.approx(next(at for at in halved if abs(at) < 20))


@pytest.mark.parametrize("family", [DescentFamily(), LevelsFamily(), AcceleratedFamily(Nesterov)], ids=name)
def test_what_is_seen_at_a_place_is_the_residual_and_its_derivatives(family):
    problem = FamilyProblem(family, Objective(fitting_of(Ridge(penalty=0.8), batch=12)))
    place = problem.place(places(family, problem.widest)[1])
    residual, slopes = problem.look(4, place)
    close(residual, problem.residual(4, place))
    theirs = optimize.approx_fprime(
        place.numpy(), lambda at: problem.residual(4, torch.from_numpy(at)).numpy(), epsilon=1e-7
    )
    close(slopes, torch.from_numpy(theirs), tolerance=1e-5)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """99 % intervals of a penalty from noisy answers; of 30 at most 2 may miss (by chance in 0.3 % of cases)."""
    missed = 0
    for seed in range(30):
        fitting = fitting_of(Ridge(penalty=0.8), noise=0.2, batch=24, seed=seed)
        (interval,) = find(FamilyProblem(RidgeFamily(), Objective(fitting)), Objective(fitting)).intervals()
        assert 0.3 < interval.low < interval.high < 2
        missed += not interval.low <= 0.8 <= interval.high
    assert missed <= 2


def test_the_interval_of_steps_holds_every_number_that_is_not_refuted():
    fitting = fitting_of(GradientDescent(steps=12, rate=0.05), noise=0.3)
    steps, rate = find(FamilyProblem(DescentFamily(), Objective(fitting)), Objective(fitting)).intervals()
    assert steps.low <= 12 <= steps.high
    assert rate.low <= 0.05 <= rate.high
    assert steps.high - steps.low > 4


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_derivatives_by_a_preconditioner_are_those_of_autograd(steps, diagonal):
    fitting = fitting_of(Ridge(penalty=0.5), batch=6)
    model = MatrixFit(steps, 4, diagonal)
    numbers = 0.2 + 0.1 * Seed(3).normal(model.size)
    block = fitting.blocks[1]
    close(
        model.derivatives(block, numbers),
        torch.autograd.functional.jacobian(lambda at: model.answers(block, at), numbers),
    )
    close(model.answers(block, numbers), model.learner(numbers).predict(block.view.prompt))


def test_derivatives_by_rates_are_those_of_autograd():
    block, numbers = fitting_of(Ridge(penalty=0.5), batch=6).blocks[2], torch.tensor([0.3, 0.1, 0.2]).double()
    model = RatesFit(3)
    close(
        model.derivatives(block, numbers),
        torch.autograd.functional.jacobian(lambda at: model.answers(block, at), numbers),
    )
    close(model.answers(block, numbers), model.learner(numbers).predict(block.view.prompt))


def test_derivatives_by_a_start_are_those_of_autograd():
    block, model = fitting_of(Ridge(penalty=0.5), batch=6).blocks[2], StartFit(3, 4, 2)
    numbers = 0.2 + 0.1 * Seed(3).normal(model.size)
    close(
        model.derivatives(block, numbers),
        torch.autograd.functional.jacobian(lambda at: model.answers(block, at), numbers),
    )
    close(model.answers(block, numbers), model.learner(numbers).predict(block.view.prompt))


@pytest.mark.parametrize(("steps", "rate"), [(2, 0.3), (5, 0.07)])
def test_a_start_is_found_with_steps_and_rate(steps, rate):
    """Its intervals hold it under noise; from zero, descent leaves much."""
    start = ((1.0, -0.5, 0.2, 0.4), (0.0, 0.3, 0.6, -0.8))
    exact = fitting_of(GradientDescent(steps=steps, rate=rate, start=start))
    (found,) = start_fits(Objective(exact), Objective(exact))
    assert found.learner.steps == steps
    assert found.learner.rate == pytest.approx(rate, rel=1e-6)
    close(torch.tensor(found.learner.start).double(), torch.tensor(start).double(), tolerance=1e-6)
    noisy = fitting_of(GradientDescent(steps=steps, rate=rate, start=start), noise=0.05)
    (found,) = start_fits(Objective(noisy), Objective(noisy))
    assert found.learner.steps == steps
    for interval, true in zip(found.intervals(), (steps, rate, *start[0], *start[1]), strict=True):
        assert interval.low <= true <= interval.high
    assert found.loss < find(FamilyProblem(DescentFamily(), Objective(noisy)), Objective(noisy)).loss / 10


def test_weights_that_no_example_moves_are_no_descent_from_a_start():
    prompts = [prompt_of(points, 60) for points in LENGTHS]
    still = [Answered(p, p.queries[..., :2] + 0.1 * p.queries[..., :2].sin()) for p in prompts]
    fitting = gather(still).half(fitting=True)
    assert start_fits(Objective(fitting), Objective(fitting)) == []


def test_a_matrix_of_one_step_is_the_solution_of_linear_least_squares():
    """One step is linear in its matrix: the normal equations of weighted answers, by NumPy, entry by entry."""
    fitting = fitting_of(Ridge(penalty=0.8))
    # Sixteen entries and the number of steps.
    found = next(f for f in matrix_fits(fitting, [(1, 0.3)]) if f.size == 17)
    columns, goals = [], []
    for block, root in zip(fitting.blocks, Objective(fitting).roots, strict=True):
        p = block.view.prompt
        cross = np.einsum("bno,bnd->bod", p.ys.numpy(), p.xs.numpy()) / p.points
        columns.append(
            (np.einsum("bod,bqe->bqode", cross, p.queries.numpy()) * root.numpy()[..., None, None]).reshape(-1, 16)
        )
        goals.append((block.answers * root).numpy().reshape(-1))
    theirs = np.linalg.lstsq(np.concatenate(columns), np.concatenate(goals), rcond=None)[0].reshape(4, 4)
    close(torch.tensor(found.learner.preconditioner).double(), torch.as_tensor(theirs), tolerance=1e-7)


def test_rates_that_differ_are_found_in_falling_order():
    fitting = fitting_of(GradientDescent(steps=3, rate=(0.1, 0.4, 0.2)))
    best = min(rate_fits(Objective(fitting), [(2, 0.3), (3, 0.3)]), key=lambda fit: fit.loss)
    assert best.learner.rate == pytest.approx((0.4, 0.2, 0.1), rel=1e-6)


@pytest.mark.parametrize("steps", [5, 8])
def test_many_rates_are_found_where_they_fit_a_polynomial(steps, monkeypatch):
    """From rates that are spread evenly Gauss and Newton's iteration ends elsewhere."""
    true = tuple(torch.logspace(0, -1.5, steps, dtype=torch.float64).tolist())
    fitting = Objective(fitting_of(GradientDescent(steps=steps, rate=true)))
    (fit,) = rate_fits(fitting, [(steps, 0.2)])
    assert fit.loss < 1e-20
    assert fit.learner.rate == pytest.approx(true, rel=1e-4)
    monkeypatch.setattr(preconditioners, "polynomial_rates", lambda fitting, steps: [])
    (fit,) = rate_fits(fitting, [(steps, 0.2)])
    assert fit.loss > 1e-16


def test_decimals_are_no_more_than_the_interval_bears():
    assert shortest(0.3333333, 0.33, 0.34) == 0.333
    assert shortest(0.5, 0.5, 0.5) == 0.5
    assert shortest(1 / 3, 1 / 3, 1 / 3) == 1 / 3
    assert shortest(-6e-19, -1e-17, 1e-17) == 0.0


def test_where_noise_is_known_large_answers_tell_how_many_steps_there_were(monkeypatch):
    """With all prompts counting alike a thousand steps would do as well, and their rate be anything."""
    noisy = []
    for i, s in enumerate(diagnostic_prompts(Plan(dim=3, count=16), Seed(117))):
        answers = predicted(GradientDescent(steps=2, rate=0.0878), s.prompt)
        size = answers.square().mean().clamp(max=4).sqrt()
        noisy.append(Answered(s.prompt, answers + 0.1 * size * (Seed(9) / i).normal(*answers.shape), s.names))
    objective = Objective(gather(noisy).half(fitting=True))
    steps, rate = find(FamilyProblem(DescentFamily(), objective), objective).intervals()
    assert (steps.low, steps.high) == (2, 2)
    assert 0.08 < rate.low <= 0.0878 <= rate.high < 0.095
    monkeypatch.setattr(fitting_module, "towards", lambda *args, even: towards(*args))
    steps, rate = find(FamilyProblem(DescentFamily(), objective), objective).intervals()
    assert steps.high > 10
    assert rate.low < 0.02


@pytest.mark.parametrize("copies", [1, 2])
def test_a_score_is_that_of_a_fit_without_its_prompt(copies):
    """For answers that are linear in the numbers, by fitting anew without every prompt and its copies."""
    prompt = prompt_of(4, batch=16)
    labels = (Seed(3) / "answers").normal(16, 3, 2)
    index = torch.arange(16).repeat(copies)
    evidence = gather([Answered(Prompt(prompt.xs[index], prompt.ys[index], prompt.queries[index]), labels[index])])
    objective = Objective(evidence)
    table = (Seed(3) / "table").normal(len(objective.clusters) * objective.entries, 3)
    # One prompt tells most.
    table[: objective.entries] *= 6
    goal = (Seed(3) / "goal").normal(len(table))
    whole = np.linalg.lstsq(table.numpy(), goal.numpy(), rcond=None)[0]
    residual = table @ torch.as_tensor(whole) - goal
    owner = objective.clusters.repeat_interleave(objective.entries)
    scores = objective.left_out(residual, table)
    assert len(scores) == 16
    for cluster, score in zip(owner.unique(), scores, strict=True):
        others = (owner != cluster).numpy()
        without = np.linalg.lstsq(table.numpy()[others], goal.numpy()[others], rcond=None)[0]
        own = ~others
        left = table.numpy()[own] @ without - goal.numpy()[own]
        close(score, torch.as_tensor(table.numpy()[own].T @ left), tolerance=1e-4)
    plain = (table * residual[:, None])[owner == owner[0]].sum(0)
    assert plain.norm() < 0.8 * scores[0].norm()


def test_another_number_of_steps_has_several_valleys(monkeypatch):
    """Two steps do as well as three here, though not with a momentum near the one that suits three."""
    noisy = []
    for i, s in enumerate(diagnostic_prompts(Plan(dim=3, count=24), Seed(114) / 10)):
        answers = predicted(Momentum(steps=3, rate=0.0564, momentum=0.589), s.prompt)
        size = answers.square().mean().clamp(max=4).sqrt()
        noisy.append(Answered(s.prompt, answers + 0.3 * size * (Seed(9) / 14 / 10 / i).normal(*answers.shape), s.names))
    objective = Objective(gather(noisy).half(fitting=True))
    steps, _, momentum = find(FamilyProblem(AcceleratedFamily(Momentum), objective), objective).intervals()
    assert steps.low == 2
    assert momentum.low < 0.2
    monkeypatch.setattr(FamilyProblem, "starts", lambda problem, count, near: [near])
    steps, _, momentum = find(FamilyProblem(AcceleratedFamily(Momentum), objective), objective).intervals()
    assert steps.low == 3
    assert momentum.low > 0.3


@pytest.mark.parametrize("seed", [1, 2])
def test_the_number_of_steps_is_found_where_prompts_run_away(seed):
    """There 64 steps say nothing of 60, unless the rate keeps the size of the answers."""
    prompts = [LinearRegression(Gaussian(3), noise=0.2).sample(Seed(seed) / n, 60, n, 3).prompt for n in (1, 3, 12)]
    true = GradientDescent(steps=60, rate=0.3)
    fitting = gather([Answered(p, predicted(true, p)) for p in prompts]).half(fitting=True)
    assert max(block.answers.abs().max() for block in fitting.blocks) > 1e9
    found = find(FamilyProblem(DescentFamily(), Objective(fitting)), Objective(fitting))
    assert found.learner.steps == 60
    assert found.learner.rate == pytest.approx(0.3, rel=1e-9)


def test_answers_keep_their_size_at_another_number_of_steps():
    view = PromptView(
        Prompt(torch.tensor([[[3.0]]]).double(), torch.ones(1, 1, 1).double(), torch.ones(1, 1, 1).double())
    )
    family = DescentFamily()
    near = family.moved((0.4,), 20, 30, [view])
    one, other = (family.answers(view, steps, rate) for steps, rate in ((20, (0.4,)), (30, near)))
    close(one.abs().log(), other.abs().log())
    assert family.moved((0.1,), 20, 30, [view]) == pytest.approx((0.2 / 3,))
    # Momentum stays as it is, and a number of neighbours has no rate.
    assert AcceleratedFamily(Momentum).moved((0.1, 0.5), 20, 40, [view]) == (0.05, 0.5)
    assert NeighbourFamily().moved((), 2, 3, [view]) == ()


def test_two_numbers_and_a_whole_one_are_found_though_the_grid_prefers_another(monkeypatch):
    """Three steps of Nesterov's, beside a kind that comes so near that the grid of another seems hopeless."""
    fitting = fitting_of(Nesterov(steps=3, rate=0.116, momentum=0.671))
    objective = Objective(fitting)
    nearest = find(FamilyProblem(AcceleratedFamily(Momentum), objective), objective)
    assert nearest.loss < 1e-3
    found = find(FamilyProblem(AcceleratedFamily(Nesterov), objective), objective, worth(nearest.loss))
    assert found.loss < 1e-20
    assert found.learner.steps == 3
    monkeypatch.setattr(fitting_module, "COARSE", 0.0)
    assert find(FamilyProblem(AcceleratedFamily(Nesterov), objective), objective, worth(nearest.loss)).loss > 1e-6


def test_numbers_that_can_change_places_stand_in_the_order_of_their_learner():
    (family,) = (f for f in FAMILIES if isinstance(f, LevelsFamily))
    prompt = prompt_of(11, batch=60)
    truth = NoiseMixture(noises=(0.2, 2.0), weight_std=1.0)
    objective = Objective(gather([Answered(prompt, truth.predict(prompt))]))
    start = family.ordered((2.0, 0.2, 1.0))
    assert start == (0.2, 2.0, 1.0)
    fit = find(FamilyProblem(family, objective), objective)
    low, high = fit.learner.noises
    assert [interval.value for interval in fit.intervals()[:2]] == [low, high]
    assert low < high

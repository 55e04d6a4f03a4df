"""The search for mixtures: the best pairs by a loop and another library, what is left out, and what is given up."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear
from tests.examples import close

from insitu import Prompt, Seed
from insitu.identification import Answered
from insitu.identification.evidence import gather
from insitu.identification.family import Fixed
from insitu.identification.fitting import gauss_newton, one_by_one
from insitu.identification.local_families import KernelFamily, ProcessFamily
from insitu.identification.mixture_scores import switched
from insitu.identification.mixtures import (
    Atom,
    Combined,
    CombinedProblem,
    MixtureFit,
    Pairs,
    mixture_fits,
    shelf,
    switch_losses,
    thinned,
    with_others,
    with_third,
    without_idle,
)
from insitu.identification.objective import Objective
from insitu.identification.ordered_families import CausalFamily, ForgettingFamily, KaczmarzFamily, RecentMeanFamily
from insitu.identification.scoring import predicted
from insitu.identification.search import Search
from insitu.identification.spectra import PromptView
from insitu.identification.spectral_families import AcceleratedFamily, DescentFamily, LeastSquaresFamily, RidgeFamily
from insitu.learners import GradientDescent, Kaczmarz, KernelSmoother, Mean, Nesterov, RecentMean, Ridge
from insitu.tasks import Gaussian, LinearRegression

LENGTHS = (2, 6)


def evidence(*parts, batch=12, noise=0.0, seed=5):
    """Answers that are a weighted sum of learners, and noise."""
    answered = []
    for points in LENGTHS:
        prompt = LinearRegression(Gaussian(3), noise=0.3).sample(Seed(4) / points, 2 * batch, points, 3).prompt
        answers = sum(weight * predicted(learner, prompt) for weight, learner in parts)
        answers = answers + noise * (Seed(seed) / points).normal(*answers.shape)
        answered.append(Answered(prompt, answers))
    return gather(answered)


def objective(*parts, batch=12, noise=0.0, seed=5):
    """Half of such answers, those for fitting."""
    return Objective(evidence(*parts, batch=batch, noise=noise, seed=seed).half(fitting=True))


FEW = objective((0.7, Ridge(penalty=2.0)), (0.3, KernelSmoother(bandwidth=0.8)))
SHELVES = [shelf(family, FEW, 0.02) for family in (RidgeFamily(), KernelFamily(), DescentFamily(single=True))]


def loss_by_scipy(one, other, way):
    """What the best weights of two residuals leave, by bounded least squares; by prompt, by a loop."""
    a, b = one.numpy(), other.numpy()
    if way == "by prompt":
        size = FEW.entries
        return sum(min((a[i : i + size] ** 2).sum(), (b[i : i + size] ** 2).sum()) for i in range(0, len(a), size))
    ends = np.cumsum([0, *Pairs(FEW).lengths]) if way == "by length" else [0, len(a)]
    return sum(
        2 * lsq_linear((a - b)[start:stop, None], -b[start:stop], bounds=(0, 1)).cost
        for start, stop in itertools.pairwise(ends)
    )


@pytest.mark.parametrize("way", ["average", "by length", "by prompt"])
def test_the_best_pair_of_two_families_is_that_of_a_loop(way):
    one, other = SHELVES[:2]
    found = Pairs(FEW).best(one, other, way)
    losses = {
        (i, j): loss_by_scipy(one.residuals[i], other.residuals[j], way)
        for i, j in itertools.product(range(len(one.atoms)), range(len(other.atoms)))
    }
    best = min(losses, key=lambda pair: losses[pair])
    assert found.loss == pytest.approx(losses[best], rel=1e-6)
    assert found.combined.atoms == (one.atoms[best[0]], other.atoms[best[1]])
    # The weights are those of the loss, and what it is of all ways differs.
    weights = torch.tensor(found.combined.weights, dtype=torch.float64)
    rows = [one.residuals[best[0]], other.residuals[best[1]]]
    mixed = CombinedProblem(FEW).mixed(rows, found.combined, weights)
    assert mixed.square().sum().item() == pytest.approx(losses[best], rel=1e-6)
    assert found.loss < min(shelf.residuals.square().sum(1).min().item() for shelf in (one, other))


def test_a_pair_of_one_family_is_two_learners():
    found = Pairs(FEW).best(SHELVES[0], SHELVES[0], "average")
    one, other = found.combined.atoms
    assert one != other


def test_switches_take_the_nearer_learner():
    one, other = torch.tensor([[1.0, 4.0]]).double(), torch.tensor([[3.0, 1.0], [0.5, 5.0]]).double()
    close(switch_losses(one, other), torch.tensor([[2.0, 4.5]]).double())


def test_learners_nearer_than_asked_are_one_and_no_others():
    rows, apart = Seed(0).normal(40, 3), torch.full((40,), 0.5).double()
    kept = thinned(rows, apart)
    distances = torch.cdist(rows, rows[kept]).square()
    assert 1 < len(kept) < 40
    assert (distances.min(1).values <= 0.5).all()
    among = distances[kept].fill_diagonal_(torch.inf)
    assert (among >= 0.5).all()


def test_a_third_learner_lowers_what_is_left():
    few = objective((0.4, Ridge(penalty=2.0)), (0.3, KernelSmoother(bandwidth=0.8)), (0.3, GradientDescent(1, 0.4)))
    shelves = [shelf(family, few, 0.001) for family in (RidgeFamily(), KernelFamily(), DescentFamily(single=True))]
    pair = Pairs(few).best(shelves[0], shelves[1], "average")
    three = with_third(pair, shelves)
    problem = CombinedProblem(few)
    mixed = problem.mixed(
        [problem.answers(atom) for atom in three.combined.atoms],
        three.combined,
        torch.tensor(three.combined.weights, dtype=torch.float64),
    )
    assert mixed.square().sum().item() == pytest.approx(three.loss, rel=1e-9)
    assert three.loss < pair.loss


def test_a_part_without_weight_is_left_out():
    atoms = tuple(Atom(RidgeFamily(), 0, (penalty,)) for penalty in (1.0, 2.0, 3.0))
    given = Combined(atoms, (0.25, 1e-12), "average")
    assert without_idle(given).atoms == (atoms[0], atoms[2])
    assert without_idle(given).weights == pytest.approx((0.25,))
    for kept in (replace(given, weights=(0.25, 0.3)), Combined(atoms[:2], (0.0,), "average")):
        assert without_idle(kept) is kept


def test_a_mixture_is_found_with_the_digits_of_double_precision():
    """0.7 and 0.3 are no numbers of single precision."""
    fit = next(mixture_fits([RidgeFamily(), KernelFamily()], FEW, FEW, 0.1, 0.0))
    ((first, second),) = fit.weights()
    assert sorted((first.value, second.value)) == pytest.approx([0.3, 0.7], abs=1e-12)
    assert min(first.low, second.low) <= 0.3 <= min(first.high, second.high)


def test_a_special_family_gives_way_to_a_plain_one_that_leaves_no_more():
    """Momentum of zero is descent; momentum of a half is not, and stays."""
    plain = [DescentFamily(), RidgeFamily()]
    other = Atom(RidgeFamily(), 0, (2.0,))
    for momentum, family in ((0.0, DescentFamily()), (0.5, AcceleratedFamily(Nesterov))):
        near = objective((0.7, Nesterov(3, 0.2, momentum)), (0.3, Ridge(penalty=2.0)))
        problem = CombinedProblem(near)
        given = Combined((Atom(AcceleratedFamily(Nesterov), 3, (0.2, momentum)), other), (0.7,), "average")
        combined, loss = problem.plainer(given, 0.0, plain)
        assert combined.atoms[0].family == family
        assert loss <= near.floor()


@pytest.mark.parametrize(("penalty", "family"), [(0.0, LeastSquaresFamily()), (2.0, RidgeFamily())])
def test_ridge_gives_way_to_least_squares_where_its_penalty_is_nothing(penalty, family):
    near = objective((0.7, Ridge(penalty=penalty)), (0.3, KernelSmoother(bandwidth=0.8)), batch=40)
    atoms = (Atom(RidgeFamily(), 0, (max(penalty, 1e-8),)), Atom(KernelFamily(), 0, (0.8,)))
    plain = [LeastSquaresFamily(), Fixed(Mean()), RidgeFamily(), KernelFamily()]
    combined, loss = CombinedProblem(near).plainer(Combined(atoms, (0.7,), "average"), 1e-12, plain)
    assert [atom.family for atom in combined.atoms] == [family, KernelFamily()]
    assert loss <= 1e-12


def test_where_one_special_family_gives_way_another_may_that_could_not_before():
    """Forgetting makes up for a rate of its own at every place; without that, ridge is as good."""
    problem, plain = CombinedProblem(FEW), [RidgeFamily(), CausalFamily()]

    def refined(given):
        forgetting, per_place = (atom.family.special for atom in given.atoms)
        return given, 0.0 if not per_place else 0.1 if forgetting else 0.2

    problem.refined = refined
    atoms = (Atom(ForgettingFamily(), 0, (0.97, 2.0)), Atom(CausalFamily(per_place=True), 2, (0.3,)))
    combined, loss = problem.plainer(*refined(Combined(atoms, (0.3,), "average")), plain)
    assert [atom.family for atom in combined.atoms] == plain
    assert not loss


def test_parts_without_numbers_have_no_widths():
    near = objective((0.7, Kaczmarz(passes=1)), (0.3, Mean()))
    atoms = (Atom(KaczmarzFamily(single=True), 1, ()), Atom(Fixed(Mean()), 0, ()))
    given = Combined(atoms, (), "by prompt")
    problem = CombinedProblem(near)
    place = problem.place(given)
    assert near.half_widths(problem.residual(given, place), problem.slopes(given, place)).shape == (0,)


def test_under_noise_answers_lead_to_the_mixture_that_made_them():
    """A mean of all labels comes near to one of recent labels; answers lie from the first towards the second only."""
    noisy = objective((0.7, Ridge(penalty=2.0)), (0.3, RecentMean(forgetting=0.8)), batch=60, noise=0.03)
    search = SimpleNamespace(scored=noisy)
    near, true = (
        fitted_pair(noisy, family, start) for family, start in ((Fixed(Mean()), ()), (RecentMeanFamily(), (0.8,)))
    )
    assert true.loss < near.loss
    assert Search.leads(search, near, true)
    assert not Search.leads(search, true, near)


def test_of_mixtures_that_noise_does_not_tell_apart_the_plainer_one_is_named():
    """A Gaussian process of great length answers as ridge does, with a number more."""
    search = Search(evidence((0.7, Ridge(penalty=2.0)), (0.3, Ridge(penalty=0.2)), batch=60, noise=0.03), Seed(0))
    noisy = search.objective
    plain = fitted_pair(noisy, RidgeFamily(), (0.2,))
    long = fitted_pair(noisy, ProcessFamily("rbf"), (300.0, 2e-6))
    assert search.replaces(plain, long)
    assert not search.replaces(long, plain)
    wrong = fitted_pair(noisy, Fixed(Mean()), ())
    assert not search.replaces(wrong, long)


def fitted_pair(near, family, start):
    """The best average of ridge and a learner of another family."""
    problem = CombinedProblem(near)
    given = Combined((Atom(RidgeFamily(), 0, (2.0,)), Atom(family, 0, start)), (0.7,), "average")
    combined, loss = problem.refined(given)
    return MixtureFit(combined, loss, problem.half_widths(combined))


DESCENT_AND_SMOOTHER = (0.7, GradientDescent(steps=5, rate=0.2)), (0.3, KernelSmoother(bandwidth=0.8))


def from_steps(near, steps):
    """The search on answers of descent and a smoother, begun at so many steps."""
    problem = CombinedProblem(near)
    atoms = (Atom(DescentFamily(), steps, (1.0 / steps,)), Atom(KernelFamily(), 0, (0.8,)))
    return problem.climbed(*problem.refined(Combined(atoms, (0.7,), "average")))


def test_the_steps_of_a_part_are_found_from_far_away():
    combined, _ = from_steps(objective(*DESCENT_AND_SMOOTHER, batch=60, noise=0.01), 80)
    assert combined.atoms[0].count == 5


def test_the_interval_of_the_steps_of_a_part_holds_the_truth():
    """At 99 %, of ten; the best number of steps alone, which a fit came to, is another one too often."""
    held = alone = 0
    for seed in range(10):
        near = objective(*DESCENT_AND_SMOOTHER, batch=60, noise=0.1, seed=seed)
        combined, loss = from_steps(near, 20)
        fit = MixtureFit(combined, loss, CombinedProblem(near).half_widths(combined))
        widened = with_others(fit, near)
        (steps, rate), _ = widened.numbers()
        held += steps.low <= 5 <= steps.high and rate.low <= 0.2 <= rate.high
        alone += fit.numbers()[0][0].low == 5
        ((weight, _),) = widened.weights()
        assert weight.low <= 0.7 <= weight.high
    assert held >= 9
    assert alone < 9


def test_a_search_that_cannot_reach_its_goal_is_given_up():
    calls = []

    def residual(place):
        calls.append(place)
        return torch.stack([place[0].exp() - 1, place[0] - 3, torch.ones(()).double() * 9])

    def slopes(place):
        return torch.stack([place[0].exp(), torch.ones(()).double(), torch.zeros(()).double()])[:, None]

    start = torch.tensor([-1.0]).double()
    _, best = gauss_newton(*one_by_one(residual, slopes), start)
    wanted = len(calls)
    calls.clear()
    _, reached = gauss_newton(*one_by_one(residual, slopes), start, goal=best * 1.001)
    assert (reached, len(calls)) == (best, wanted)
    calls.clear()
    _, given_up = gauss_newton(*one_by_one(residual, slopes), start, goal=1.0)
    assert given_up >= best
    assert len(calls) < wanted


def test_a_singular_system_is_no_learner_and_no_error():
    prompt = Prompt(torch.zeros(2, 3, 2).double(), torch.ones(2, 3, 1).double(), torch.ones(2, 1, 2).double())
    assert ForgettingFamily().answers(PromptView(prompt), 0, (0.5, 0.0)).isnan().all()


def test_learners_far_larger_than_the_answers_are_part_of_nothing():
    tiny = tuple(replace(block, answers=1e-9 * block.answers) for block in FEW.evidence.blocks)
    assert shelf(KernelFamily(), Objective(replace(FEW.evidence, blocks=tiny)), 0.02).atoms == ()


def test_a_switch_explains_no_noise_and_no_error_by_the_choice_itself():
    """Between right answers: the noise is left, beside what doubt explains. Between wrong ones: all of their error."""
    draw = Seed(6).normal(4, 4000, 2, 1)
    one, other = draw[0], draw[1]
    true = torch.where(Seed(7).normal(4000, 1, 1) > 0, one, other)
    noisy = true + 0.5 * draw[2]
    answers, doubt = switched(noisy, one, other, torch.full((4000,), 0.25).double())
    assert (noisy - answers).square().mean() - doubt.mean() == pytest.approx(0.25, abs=0.02)
    assert doubt.mean() > 0.1
    answers, doubt = switched(draw[3], one, other, torch.full((4000,), 1e-9).double())
    assert (draw[3] - answers).square().mean() == pytest.approx(2.0, abs=0.15)
    assert doubt.mean() < 0.01
    nearer = ((one - draw[3]).square() <= (other - draw[3]).square()).to(one)
    assert (draw[3] - torch.lerp(other, one, nearer)).square().mean() < 1.3

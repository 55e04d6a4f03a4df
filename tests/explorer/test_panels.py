"""The panels: every curve by a second road, and the Python that each gives away."""

import math
import warnings
from dataclasses import replace

import pytest
import torch

from insitu import Seed, theory
from insitu.errors import StepSizeWarning
from insitu.explorer import PANELS, PRESETS, State
from insitu.explorer.errors import depth_responses, labels, relative_errors
from insitu.explorer.setting import FEW, PROMPTS, episode, part
from insitu.learners import CausalDescent, GradientDescent, Kaczmarz, LeastSquares
from insitu.tasks import Gaussian, LinearRegression, UniformCube

SMALL = State(dim=4, points=7, depth=5, rate=0.9, noise=0.3)
STATES = [
    SMALL,
    replace(SMALL, task="normal", mask="prefix", condition=8.0, shift=0.5, rate=0.4),
    replace(SMALL, task="sigmoid", shift=2.0),
    replace(SMALL, points=2, rate=6.4, shift=4.0, noise=0.0),
    PRESETS["Ding et al., figure 2: causal stalls"],
]
# What adding up some hundred numbers in another order leaves, relative to the largest of a curve.
ROUNDING = 1e-11


def same(curve, other):
    """Whether two curves agree up to rounding, empty cells included."""
    one, two = (torch.tensor(c, dtype=torch.float64) for c in (curve, other))
    size = one.nan_to_num(0.0).abs()
    # An error is a square, so that one of nothing but rounding has rounding's square for its size.
    atol = ROUNDING * max(size.max().item(), ROUNDING)
    return one.shape == two.shape and torch.allclose(one, two, rtol=1e-9, atol=atol, equal_nan=True)


def run(code):
    """The names that a program leaves."""
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        exec(compile(code, "panel", "exec"), names)
    return names


@pytest.mark.parametrize("state", STATES, ids=repr)
@pytest.mark.parametrize("name", list(PANELS))
def test_the_python_of_a_panel_gives_its_numbers(name, state):
    shown = PANELS[name].view(state).curves
    computed = run(PANELS[name].code(state))["curves"]
    assert computed.keys() == shown.keys()
    for label, curve in shown.items():
        assert same(curve, computed[label]), label


@pytest.mark.parametrize("name", ["depth", "plane", "answers", "examples", "shifts"])
def test_python_of_another_rate_is_noticed(name):
    shown = PANELS[name].view(SMALL).curves
    computed = run(PANELS[name].code(replace(SMALL, rate=0.8)))["curves"]
    assert any(not same(curve, computed[label]) for label, curve in shown.items())


@pytest.mark.parametrize("mask", ["prefix", "causal"])
def test_responses_are_the_iterates_of_the_network(mask):
    """By the coupled iterations of theory, on unit labels, position by position."""
    xs = episode(SMALL).prompt.xs[:3]
    unit = torch.eye(SMALL.points, dtype=xs.dtype).expand(3, -1, -1)
    learner = GradientDescent if mask == "prefix" else CausalDescent
    for layer, response in enumerate(depth_responses(xs, 0.9, 4, mask)):
        if mask == "causal":
            weights = theory.place_iterates(xs, unit, 0.9, layer)[-1, :, -1]
        else:
            weights = learner(steps=layer, rate=0.9).weights(xs, unit)
        torch.testing.assert_close(response, weights, rtol=1e-10, atol=1e-12)


def test_exact_errors_are_the_means_of_measured_ones():
    """The expectation over weights, noise and queries against a million of them, on the same inputs."""
    state = replace(SMALL, dim=2, points=3)
    given = part(episode(state), 1, 3)
    draws = 200_000
    weights = Seed(1).normal(draws, 2)
    drawn = weights @ given.prompt.xs[0].T + state.noise * Seed(2).normal(draws, 3)
    (answered,) = LeastSquares().weights(given.prompt.xs, drawn.T[None])
    queries = UniformCube(2).draw(Seed(3), 1, draws)[0]
    missed = ((answered - weights) * queries).sum(1).square() / ((weights * queries).sum(1).square().mean())
    learned = LeastSquares().weights(given.prompt.xs, labels(given, state))
    (exact,) = relative_errors([learned], given, state)
    assert abs(missed.mean().item() - exact) < 4.5 * missed.std().item() / math.sqrt(draws)
    assert abs(missed.mean().item() - 1.1 * exact) > 4.5 * missed.std().item() / math.sqrt(draws)


@pytest.mark.parametrize("task", ["uniform", "normal"])
def test_the_causal_limit_is_that_of_theory(task):
    """The mean over the inputs of the panel against the closed form over all inputs."""
    state = State(task=task, noise=0.5, dim=6, points=12)
    given = episode(state)
    learned = Kaczmarz().weights(given.prompt.xs, labels(given, state))
    errors = torch.tensor(relative_errors([learned], given, state, groups=PROMPTS), dtype=torch.float64)
    law = Gaussian(6) if task == "normal" else UniformCube(6)
    moment = law.covariance()[0, 0].item()
    inverse = getattr(theory.convergence, "gaussian_inverse_square" if task == "normal" else "uniform_inverse_square")
    closed = theory.causal_error(6, 12, second_moment=moment, noise=0.5, inverse_square=inverse(6))[-1] / (6 * moment)
    assert abs(errors.mean() - closed) < 4 * errors.std() / math.sqrt(PROMPTS)
    assert f"{100 * closed:.2g} %" in PANELS["depth"].view(state).source.replace("\N{NO-BREAK SPACE}", " ")


def test_the_networks_answers_lie_around_the_exact_curve():
    """Its intervals over prompts hold the exact error of the same inputs."""
    view = PANELS["depth"].view(State(noise=0.3, depth=12))
    (rings,) = [line for line in view.shown.lines if line.label == "the network's answers"]
    exact = view.curves["causal mask"]
    inside = [low <= e <= high for low, e, high in zip(rings.low, exact, rings.high, strict=False)]
    assert sum(inside) >= len(inside) - 1


def test_rings_lie_on_the_learner_that_the_network_is():
    for mask, name in (("prefix", "gradient descent"), ("causal", "causal descent")):
        view = PANELS["answers"].view(replace(SMALL, mask=mask))
        assert same(view.curves["the network"], view.curves[name])
        assert f"The rings lie on {name}: equal up to rounding" in view.sentence
    assert not same(view.curves["the network"], view.curves["gradient descent"])


def test_kaczmarz_projects_onto_the_line_of_each_example():
    """Every corner of the path fits its example; the curve of descent ends where the sentence says."""
    state = replace(SMALL, noise=0.0, depth=40, dim=2, points=4)
    (path,) = [line for line in PANELS["plane"].view(state).shown.lines if line.label == "Kaczmarz pass"]
    prompt = part(episode(state), 1, 4).prompt
    corners = torch.tensor([path.x, path.y], dtype=torch.float64).T
    fits = (corners[1:] * prompt.xs[0]).sum(1)
    torch.testing.assert_close(fits, prompt.ys[0, :, 0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mask", ["prefix", "causal"])
def test_cells_are_those_that_a_loop_sees(mask):
    rows = PANELS["attention"].view(replace(SMALL, mask=mask, points=5)).shown.values
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            seen = j < 5 if mask == "prefix" or i == 5 else j <= i
            assert (cell is not None) == seen, (i, j)
    assert max(abs(v) for row in rows for v in row if v is not None) == pytest.approx(1.0)


def test_one_trained_layer_is_exact_for_normal_inputs():
    """The closed form against one step of gradient descent on many prompts."""
    state = State(task="normal", dim=3, points=8, trained=12, noise=0.2, shift=1.5)
    curve = PANELS["examples"].view(state).curves["one trained layer"]
    step = theory.best_step(torch.eye(3, dtype=torch.float64), 12, noise_variance=0.04)
    given = LinearRegression(Gaussian(3, covariance_of=2.25), noise=0.2).sample(Seed(5), 20_000, 80)
    answers = given.prompt.queries @ (step @ given.prompt.xs.mT @ given.prompt.ys) / 80
    missed = (answers - given.answers).square().flatten() / (3 * 2.25)
    assert abs(missed.mean() - curve[-1]) < 4.5 * missed.std() / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("state", "panel", "words"),
    [
        (State(), "depth", "the same weights run online gradient descent"),
        (State(mask="prefix", depth=40), "depth", "at nothing"),
        (State(mask="prefix", rate=6.0), "depth", "every further layer makes it worse"),
        (State(mask="prefix", points=6), "examples", "the steps overshoot and zero is a better answer"),
        (
            State(task="normal", mask="prefix", depth=1, rate=0.7),
            "shifts",
            "Answering zero beats one trained layer from factor 1.6 on",
        ),
        (State(mask="prefix"), "attention", "their order has no effect"),
        (State(depth=1), "depth", "after 1 layer,"),
    ],
)
def test_sentences_say_what_is_seen(state, panel, words):
    assert words in PANELS[panel].view(state).sentence


@pytest.mark.parametrize("name", list(PANELS))
def test_no_state_breaks_a_panel(name):
    """Corners of the ranges: what diverges or vanishes is drawn and told too."""
    for corner in (
        State(points=2, dim=32, rate=6.4, shift=4.0, depth=40, condition=64.0),
        State(points=2, dim=2, noise=2.0, rate=0.05, shift=0.25, depth=1, trained=2),
        State(task="sigmoid", points=80, dim=2, depth=1, mask="prefix"),
    ):
        view = PANELS[name].view(corner)
        picture = PANELS[name].svg(view)
        assert view.sentence.endswith(".")
        assert "nan" not in picture
        assert "inf" not in picture.replace("information", "")


def test_few_prompts_are_the_first_of_many():
    assert FEW <= PROMPTS

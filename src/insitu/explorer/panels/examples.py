"""Error against the number of examples in the prompt."""

from collections.abc import Callable
from functools import lru_cache
from typing import final

from torch import Tensor

from insitu import theory
from insitu.explorer.code import prompts_code, relative_error_code, training_code
from insitu.explorer.drawing import Axis, Curves
from insitu.explorer.errors import answer_power, labels, last_response, learned, relative_errors, step_response
from insitu.explorer.panels.depth import ERROR
from insitu.explorer.setting import FEW, descent, episode, learners, part, spread, trained_step
from insitu.explorer.state import CONTROLS, State
from insitu.explorer.view import COLOUR, Panel, View
from insitu.explorer.words import counted, percent
from insitu.figure import line
from insitu.learners.learner import LinearLearner
from insitu.prompt import Episode

__all__ = ["Examples"]

MOST = int(CONTROLS["points"].high)
LENGTHS = (1, 2, 4, 6, 9, 13, 18, 25, 34, 46, 61, MOST)
REFERENCES = ("ridge", "least squares", "Kaczmarz pass")


@final
class Examples(Panel):
    """The network at its depth, one trained layer, and learners, at every number of examples."""

    name = "examples"
    title = "How many examples are enough?"
    ignores = ()

    def look(self, state: State) -> View:
        errors = {"network": network_errors(state)} | reference_errors(state.without("depth", "mask", "rate"))
        colours = COLOUR | {"network": COLOUR[state.mask]}
        lines = [line(label(name, state), LENGTHS, values, colour=colours[name]) for name, values in errors.items()]
        curves = Curves(Axis("examples in the prompt", 0, MOST), ERROR, tuple(lines), here=state.points)
        return View(curves, sentence(state, errors), source(state))

    def code(self, state: State) -> str:
        chosen = {label("network", state): descent(state, state.mask)}
        chosen |= {name: learners(state)[name] for name in REFERENCES}
        return EXAMPLES.format(
            prompts=prompts_code(state, points=MOST),
            error=relative_error_code(state),
            training=training_code(state),
            learners=",\n".join(f'    "{name}": {learner!r}' for name, learner in chosen.items()),
            lengths=LENGTHS,
            few=FEW,
            trained=EXACTLY.format(shift=state.shift, noise=state.noise) if state.task == "normal" else AS_LEARNER,
        )


def label(name: str, state: State) -> str:
    """The name of a line."""
    return f"{counted(state.depth, 'layer')}, {state.mask}" if name == "network" else name


def longest(state: State) -> Episode:
    """The prompts with most examples."""
    return part(episode(state, MOST), FEW, MOST)


def network_errors(state: State) -> list[float]:
    """The errors of the network."""
    given = longest(state)
    return errors_at_lengths(lambda xs: last_response(xs, state, state.mask), given, state)


def errors_at_lengths(response: Callable[[Tensor], Tensor], given: Episode, state: State) -> list[float]:
    """The errors of a matrix R that is made of the first inputs, for every length."""
    weights = (learned(response(given.prompt.xs[:, :n]), given, state) for n in LENGTHS)
    return relative_errors(weights, given, state)


@lru_cache(maxsize=8)
def reference_errors(state: State) -> dict[str, list[float]]:
    """The errors of what does not depend on the network."""
    given = longest(state)
    known = {name: learners(state)[name] for name in REFERENCES}
    errors = {name: learner_errors(learner, given, state) for name, learner in known.items()}
    return errors | {"one trained layer": trained_errors(state, given)}


def learner_errors(learner: LinearLearner, given: Episode, state: State) -> list[float]:
    """The errors of a learner, for every length."""
    weights = learner.prefix_weights(given.prompt.xs, labels(given, state))
    return relative_errors([weights[:, n - 1] for n in LENGTHS], given, state)


def trained_errors(state: State, given: Episode) -> list[float]:
    """The error of the trained layer: a closed form for normal inputs, exact given the inputs for others."""
    step = trained_step(state)
    if state.task != "normal":
        return errors_at_lengths(lambda xs: step_response(xs, step), given, state)
    covariance = spread(state).mul(state.shift**2).diag()
    noise = state.noise**2
    return [theory.step_error(step, covariance, n, noise_variance=noise) / answer_power(state) for n in LENGTHS]


def sentence(state: State, errors: dict[str, list[float]]) -> str:
    """Where the network is worse than zero, and what is left with most examples."""
    bad = [n for n, error in zip(LENGTHS, errors["network"], strict=True) if not error <= 1]
    last = {name: percent(values[-1]) for name, values in errors.items()}
    who = f"{counted(state.depth, 'layer')} at rate {state.rate:g} under a {state.mask} mask"
    if len(bad) == len(LENGTHS):
        return f"At no length do the answers of {who} beat zero: the rate is too large for these inputs."
    start = f"Up to {counted(bad[-1], 'example')} the steps overshoot and zero is a better answer. " if bad else ""
    return (
        f"{start}With {MOST} examples {who} leave {last['network']} of the error; one layer trained at length "
        f"{state.trained} leaves {last['one trained layer']}, one Kaczmarz pass {last['Kaczmarz pass']}, ridge "
        f"{last['ridge']}."
    )


def source(state: State) -> str:
    """What is exact."""
    if state.task == "sigmoid":
        return f"Measured on {FEW} prompts; the trained layer is that of a linear task (theory.best_step)."
    trained = "theory.step_error, exact over all prompts" if state.task == "normal" else "theory.best_step"
    return f"Exact given the inputs, mean over {FEW} prompts; the trained layer: {trained}."


EXAMPLES = '''{prompts}
from insitu import Episode, Prompt, theory
from insitu.learners import CausalDescent, GradientDescent, Kaczmarz, LeastSquares, Ridge

{error}


def first(points):
    """The first examples of the first {few} prompts."""
    xs, ys, queries = (t[:{few}] for t in (episode.prompt.xs, episode.prompt.ys, episode.prompt.queries))
    return Episode(Prompt(xs, ys, queries).prefix(points), episode.answers[:{few}], episode.latent[:{few}])


{training}
lengths = {lengths}
learners = {{
{learners},
}}
curves = {{
    name: [relative_error(learner, first(n)) for n in lengths] for name, learner in learners.items()
}}
{trained}
'''

AS_LEARNER = """layer = GradientDescent(steps=1, rate=1.0, preconditioner=step)
curves["one trained layer"] = [relative_error(layer, first(n)) for n in lengths]"""

EXACTLY = """test = {shift!r} ** 2 * covariance
curves["one trained layer"] = [
    theory.step_error(step, test, n, noise_variance={noise!r} ** 2) / test.trace().item() for n in lengths
]"""

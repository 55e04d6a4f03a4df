"""Error against covariate shift."""

from dataclasses import replace
from functools import lru_cache
from typing import final

from insitu.explorer.code import prompts_code, relative_error_code, training_code
from insitu.explorer.drawing import Axis, Curves
from insitu.explorer.errors import labels, last_response, learned, relative_errors, step_response
from insitu.explorer.panels.depth import ERROR
from insitu.explorer.setting import FEW, descent, episode, part, scaled, trained_step
from insitu.explorer.state import State
from insitu.explorer.view import COLOUR, Panel, View
from insitu.explorer.words import counted, percent
from insitu.figure import line
from insitu.learners import Ridge
from insitu.learners.learner import LinearLearner

__all__ = ["Shifts"]

FACTORS = tuple(2.0 ** (k / 3) for k in range(-6, 7))


@final
class Shifts(Panel):
    """What happens to a network whose inputs are larger or smaller than those of training."""

    name = "shifts"
    title = "What if the inputs change size?"
    ignores = ()

    def look(self, state: State) -> View:
        errors = errors_by_shift(state.without("shift"))
        colours = COLOUR | {deep(state, mask): COLOUR[mask] for mask in ("prefix", "causal")}
        lines = [line(name, FACTORS, values, colour=colours[name]) for name, values in errors.items()]
        axis = Axis("factor on all inputs (training = 1)", 0.25, 4.0, "log", ticks=(0.25, 0.5, 1, 2, 4))
        return View(Curves(axis, ERROR, tuple(lines), here=state.shift), sentence(state, errors), source(state))

    def code(self, state: State) -> str:
        plain = prompts_code(replace(state, shift=1.0))
        *opening, _, draw = plain.rpartition("\n")
        return SHIFTS.format(
            prompts="".join(opening),
            draw=draw.removeprefix("episode = task.").replace("task.", ""),
            error=relative_error_code(state),
            training=training_code(state),
            learners=code_learners(state),
            few=FEW,
        )


def code_learners(state: State) -> str:
    """The learners of the panel but the trained layer, as Python."""
    known: dict[str, LinearLearner] = {deep(state, m): descent(state, m) for m in ("prefix", "causal")}
    known["ridge"] = Ridge(penalty=state.noise**2)
    return "\n".join(f'    "{name}": {learner!r},' for name, learner in known.items())


@lru_cache(maxsize=4)
def errors_by_shift(state: State) -> dict[str, list[float]]:
    """The error of every learner at every factor."""
    plain = replace(state, shift=1.0)
    given = scaled(part(episode(plain), FEW, state.points), plain, FACTORS)
    xs = given.prompt.xs
    responses = {deep(state, mask): last_response(xs, state, mask) for mask in ("prefix", "causal")}
    responses["one trained layer"] = step_response(xs, trained_step(state))
    weights = {name: learned(response, given, state) for name, response in responses.items()}
    weights["ridge"] = Ridge(penalty=state.noise**2).weights(xs, labels(given, state))
    return {name: relative_errors([w], given, state, len(FACTORS)) for name, w in weights.items()}


def deep(state: State, mask: str) -> str:
    """The name of the network's line."""
    return f"{counted(state.depth, 'layer')}, {mask}"


def sentence(state: State, errors: dict[str, list[float]]) -> str:
    """From which factor on they are worse than answering zero."""
    one, own = (break_point(errors[name]) for name in ("one trained layer", deep(state, state.mask)))
    layers = f"{counted(state.depth, 'layer')} under a {state.mask} mask"
    return (
        f"Answering zero beats one trained layer {broken(one)} and {layers} {broken(own)}. Ridge fits inputs of any "
        f"size: at factor 4 it leaves {percent(errors['ridge'][-1])} of the error."
    )


def broken(point: float | None) -> str:
    """From where on an error exceeds that of answering zero, in words."""
    if point is None:
        return "at no factor"
    return "at every factor" if point == FACTORS[0] else f"from factor {point:.2g} on"


def break_point(errors: list[float]) -> float | None:
    """The least factor above which an error exceeds that of answering zero."""
    bad = [factor for factor, error in zip(FACTORS, errors, strict=True) if not error <= 1]
    return bad[0] if bad else None


def source(state: State) -> str:
    """What is exact."""
    if state.task == "sigmoid":
        return f"Measured on {FEW} prompts at each factor."
    return (
        f"Exact given the inputs (expectation over weights, noise and query), mean over {FEW} prompts; a factor c on "
        "the inputs acts on descent like c² on its rate."
    )


SHIFTS = '''{prompts}
from insitu import Episode, Prompt, theory
from insitu.learners import CausalDescent, GradientDescent, Ridge
from insitu.tasks import Shifted

{error}


def shifted(factor):
    """The first {few} prompts of the task with larger inputs."""
    given = Shifted(task, scale=factor).{draw}
    xs, ys, queries = (t[:{few}] for t in (given.prompt.xs, given.prompt.ys, given.prompt.queries))
    return Episode(Prompt(xs, ys, queries), given.answers[:{few}], given.latent[:{few}])


{training}
factors = [2 ** (k / 3) for k in range(-6, 7)]
learners = {{
{learners}
    "one trained layer": GradientDescent(steps=1, rate=1.0, preconditioner=step),
}}
curves = {{
    name: [relative_error(learner, shifted(c)) for c in factors] for name, learner in learners.items()
}}
'''

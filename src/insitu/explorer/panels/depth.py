"""Error against depth, under both masks."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, final

from insitu import theory
from insitu.explorer.code import prompts_code, relative_error_code
from insitu.explorer.drawing import Axis, Curves
from insitu.explorer.errors import answer_power, depth_responses, error_estimate, labels, learned, relative_errors
from insitu.explorer.setting import PROMPTS, episode, layer_answers
from insitu.explorer.state import CONTROLS, State
from insitu.explorer.view import COLOUR, Panel, View
from insitu.explorer.words import counted, percent
from insitu.figure import Line, line
from insitu.learners import Kaczmarz, LeastSquares
from insitu.learners.learner import LinearLearner

__all__ = ["ERROR", "Depth"]

LAYERS = int(CONTROLS["depth"].high)
ERROR = Axis("relative error (answering zero = 1)", 1e-4, 10.0, "log")
MASKS: tuple[theory.convergence.Variant, ...] = ("prefix", "causal")
LIMITS: dict[str, LinearLearner] = {"least squares": LeastSquares(), "Kaczmarz pass": Kaczmarz()}


@final
class Depth(Panel):
    """The error of the constructed network after every layer, exact under both masks, and as it answers."""

    name = "depth"
    title = "Does depth help?"
    ignores = ("trained",)

    def look(self, state: State) -> View:
        exact, limits = exact_errors(state.without("depth", "mask"))
        lines = [line(f"{mask} mask", range(LAYERS + 1), exact[mask], colour=COLOUR[mask]) for mask in MASKS]
        lines += [line(name, (0, LAYERS), (y, y), look="dotted", colour=COLOUR[name]) for name, y in limits.items()]
        curves = Curves(Axis("layers", 0, LAYERS), ERROR, (*lines, measured(state)), here=state.depth)
        return View(curves, sentence(state, exact, limits), source(state))

    def code(self, state: State) -> str:
        return DEPTH.format(
            prompts=prompts_code(state),
            error=relative_error_code(state),
            rate=state.rate,
            layers=LAYERS,
            dim=state.dim,
            depth=state.depth,
            mask=state.mask.capitalize(),
            power=answer_power(state),
        )


@lru_cache(maxsize=4)
def exact_errors(state: State) -> tuple[dict[theory.convergence.Variant, list[float]], dict[str, float]]:
    """The errors by depth under each mask, and their limits."""
    given = episode(state)
    xs = given.prompt.xs
    errors = {}
    for mask in MASKS:
        responses = depth_responses(xs, state.rate, LAYERS, mask)
        errors[mask] = relative_errors((learned(r, given, state) for r in responses), given, state)
    return errors, end_errors(state.without("rate"))


@lru_cache(maxsize=8)
def end_errors(state: State) -> dict[str, float]:
    """The errors where infinite depth ends."""
    given = episode(state)
    ends = [end.weights(given.prompt.xs, labels(given, state)) for end in LIMITS.values()]
    return dict(zip(LIMITS, relative_errors(ends, given, state), strict=True))


def measured(state: State) -> Line:
    """The network's own answers, read out after every layer, with 99 % intervals over prompts."""
    estimates = [error_estimate(answers, state) for answers in layer_answers(state)]
    low, high = zip(*(e.interval() for e in estimates), strict=True)
    values = [e.value for e in estimates]
    return line("the network's answers", range(len(values)), values, low=low, high=high, look="points", colour=-1)


def sentence(state: State, exact: Mapping[Any, list[float]], limits: dict[str, float]) -> str:
    """What the curves say."""
    errors = exact[state.mask]
    here, layers = errors[state.depth], counted(state.depth, "layer")
    if not here <= 1:
        further = ", and every further layer makes it worse" if rising(errors, state.depth) else ""
        return (
            f"At rate {state.rate:g} the steps overshoot: after {layers} under a {state.mask} mask the network answers "
            f"worse than zero does{further}."
        )
    left = f"{percent(here)} of the error is left after {layers}"
    if state.mask == "causal":
        end = percent(limits["Kaczmarz pass"])
        return (
            f"With a causal mask the same weights run online gradient descent: {left}, and depth stalls at {end}, "
            "where one Kaczmarz pass ends."
        )
    end = percent(limits["least squares"])
    return (
        f"With a prefix mask every layer is a step of gradient descent: {left}, and depth leads to least squares, "
        f"at {end}."
    )


def rising(errors: list[float], depth: int) -> bool:
    """Whether the error still grows at a depth."""
    after = errors[min(depth + 1, len(errors) - 1)]
    return not math.isfinite(after) or after > errors[depth]


def source(state: State) -> str:
    """What is exact, and by which function."""
    if state.task == "sigmoid":
        return (
            f"No closed form: lines and rings are measured on {PROMPTS} prompts; the weights of the lines come from "
            "theory.error_step."
        )
    given = (
        f"Lines: exact given the inputs (theory.error_step; expectation over weights, noise and query), mean over "
        f"{PROMPTS} prompts. Rings: the network's answers, 99 % intervals."
    )
    closed = closed_form(state)
    return (
        given
        if closed is None
        else f"{given} Over all prompts the causal limit is {percent(closed)} (theory.causal_error)."
    )


def closed_form(state: State) -> float | None:
    """The causal limit over all prompts, where the inputs are isotropic."""
    if state.condition != 1 or state.task == "sigmoid" or (state.noise and state.dim < 3):
        return None
    moment = 1.0 if state.task == "normal" else 1 / 3
    inverse = (
        theory.convergence.gaussian_inverse_square
        if state.task == "normal"
        else theory.convergence.uniform_inverse_square
    )
    size = moment * state.shift**2
    noisy = inverse(state.dim) / state.shift**2 if state.noise else 0.0
    errors = theory.causal_error(state.dim, state.points, second_moment=size, noise=state.noise, inverse_square=noisy)
    return errors[-1].item() / (size * state.dim)


DEPTH = """{prompts}
from insitu.learners import CausalDescent, GradientDescent, Kaczmarz, LeastSquares
from insitu.models import {mask}, gradient_descent

{error}


masks = {{"prefix mask": GradientDescent, "causal mask": CausalDescent}}
curves = {{
    name: [relative_error(kind(steps=steps, rate={rate!r}), episode) for steps in range({layers} + 1)]
    for name, kind in masks.items()
}}
curves["least squares"] = [relative_error(LeastSquares(), episode)] * 2
curves["Kaczmarz pass"] = [relative_error(Kaczmarz(), episode)] * 2

network = gradient_descent(dim={dim}, steps={depth}, rate={rate!r}, mask={mask}())
with torch.no_grad():
    missed = network.predict_layers(episode.prompt) - episode.answers
curves["the network's answers"] = (missed.square().mean((1, 2, 3)) / {power!r}).tolist()
"""

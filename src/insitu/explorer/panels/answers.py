"""The constructed network's answers beside those of the reference learners."""

from functools import lru_cache
from typing import final

import torch

from insitu.explorer.code import prompts_code
from insitu.explorer.drawing import Axis, Curves
from insitu.explorer.setting import PROMPTS, QUERIES, episode, layer_answers, learners
from insitu.explorer.state import State
from insitu.explorer.view import COLOUR, Panel, View
from insitu.explorer.words import listed
from insitu.figure import line
from insitu.identification.scoring import predicted
from insitu.report.numbers import number

__all__ = ["Answers"]


# Distances below which answers agree: the square of what rounding in float64 leaves.
EQUAL = 1e-20
DESCENTS = ("gradient descent", "causal descent")


@final
class Answers(Panel):
    """The answers to the queries of one prompt against the truth, and how far each learner is from the network."""

    name = "answers"
    title = "Whose answers are these?"
    ignores = ("trained",)

    def look(self, state: State) -> View:
        given = episode(state)
        own = layer_answers(state)[-1]
        others = answers_of(state, True) | answers_of(state.without("depth", "mask", "rate"), False)
        distances = {name: relative_distance(answers, own) for name, answers in others.items()}
        truth = given.answers[0, :, 0]
        most = 1.25 * truth.abs().max().item()
        lines = [line("", (-most, most), (-most, most), look="dotted", colour=-2)]
        lines += [line(name, truth, a[0, :, 0], look="points", colour=COLOUR[name]) for name, a in others.items()]
        lines += [line("the network", truth, own[0, :, 0], look="points", colour=-1)]
        curves = Curves(Axis("true value", -most, most), Axis("answer", -most, most), tuple(lines))
        return View(curves, sentence(distances), SOURCE)

    def code(self, state: State) -> str:
        return ANSWERS.format(
            prompts=prompts_code(state),
            mask=state.mask.capitalize(),
            sizes=f"dim={state.dim}, steps={state.depth}, rate={state.rate!r}",
            learners=",\n".join(f'    "{name}": {learner!r}' for name, learner in learners(state).items()),
        )


@lru_cache(maxsize=8)
def answers_of(state: State, descents: bool) -> dict[str, torch.Tensor]:
    """The answers of what the network runs under either mask, or of the learners that do not depend on it."""
    prompt = episode(state).prompt
    chosen = {name: learner for name, learner in learners(state).items() if (name in DESCENTS) == descents}
    return {name: predicted(learner, prompt) for name, learner in chosen.items()}


def relative_distance(answers: torch.Tensor, own: torch.Tensor) -> float:
    """The mean squared difference from the network's answers, relative to their mean square."""
    return ((answers - own).square().mean() / own.square().mean().clamp(min=1e-300)).item()


def sentence(distances: dict[str, float]) -> str:
    """Which learners the network is, and which comes next."""
    same = [name for name, distance in distances.items() if distance < EQUAL]
    others = {name: distance for name, distance in distances.items() if distance >= EQUAL}
    nearest = sorted(others, key=lambda name: others[name])[:3]
    far = listed([f"{name} ({number(others[name], 2)})" for name in nearest])
    if not same:
        return f"The network is none of them to the last digit; nearest are {far}."
    return f"The rings lie on {listed(same)}: equal up to rounding. Then follow {far}, in squared relative distance."


SOURCE = (
    f"Measured: one prompt's {QUERIES} queries are drawn; distances E|f − g|² / E|f|² are over {PROMPTS} prompts. "
    "Ridge's penalty is optimal for the task's noise. On the diagonal an answer is right."
)

ANSWERS = """{prompts}
from insitu.learners import CausalDescent, GradientDescent, Kaczmarz, LeastSquares, OnlineDescent, Ridge
from insitu.models import {mask}, gradient_descent

predictors = {{
{learners},
    "the network": gradient_descent({sizes}, mask={mask}()),
}}
with torch.no_grad():
    curves = {{name: predictor.predict(episode.prompt)[0, :, 0].tolist() for name, predictor in predictors.items()}}
"""

"""The path of the weights in the plane."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.explorer.code import prompts_code
from insitu.explorer.drawing import Axis, Curves, Note
from insitu.explorer.errors import depth_responses
from insitu.explorer.setting import episode, part
from insitu.explorer.state import State
from insitu.explorer.view import COLOUR, Panel, View
from insitu.explorer.words import counted, percent
from insitu.figure import Line, line
from insitu.learners import Kaczmarz, LeastSquares

__all__ = ["Plane"]

# Examples whose lines can be told apart.
MOST = 6
LEVELS = tuple(4.0**k for k in range(-3, 3))
Points = Float[Tensor, "_ 2"]


@final
class Plane(Panel):
    """Two dimensions, one prompt: the loss, the weights after every layer under both masks, and a Kaczmarz pass."""

    name = "plane"
    title = "Which way do the weights go?"
    ignores = ("mask", "dim", "trained")

    def look(self, state: State) -> View:
        flat = replace(state, dim=2, points=min(state.points, MOST))
        prompt = part(episode(flat), 1, flat.points).prompt
        paths = {f"{mask} mask": depth_path(flat, prompt.xs, prompt.ys, mask) for mask in ("prefix", "causal")}
        best = LeastSquares().weights(prompt.xs, prompt.ys)[0]
        passed = torch.cat([torch.zeros_like(best), Kaczmarz().prefix_weights(prompt.xs, prompt.ys)[0, :, 0]])
        x, y = window(torch.cat([torch.zeros_like(best), best, passed]))
        lines = [
            *contours(prompt.xs[0], best[0]),
            *(example_line(a, b, x.high - x.low) for a, b in zip(prompt.xs[0], prompt.ys[0, :, 0], strict=True)),
            line("Kaczmarz pass", *passed.T, look="dashed", colour=COLOUR["Kaczmarz pass"]),
            *(piece for name, path in paths.items() for piece in walk(name, path)),
        ]
        lines.append(line("", best[:, 0], best[:, 1], look="points", colour=COLOUR["least squares"]))
        notes = (Note(0, 0, " start"), Note(best[0, 0].item(), best[0, 1].item(), " least squares"))
        return View(Curves(x, y, tuple(lines), notes=notes, square=True), sentence(flat, paths, best, passed), SOURCE)

    def code(self, state: State) -> str:
        flat = replace(state, dim=2, points=min(state.points, MOST))
        return PLANE.format(prompts=prompts_code(flat), rate=state.rate, depth=state.depth)


def depth_path(state: State, xs: Tensor, ys: Tensor, mask: str) -> Points:
    """The weights before the first layer and after each."""
    responses = depth_responses(xs, state.rate, state.depth, mask)  # type: ignore[arg-type]
    return torch.cat([(ys.mT @ response)[0] for response in responses])


def window(points: Points) -> tuple[Axis, Axis]:
    """Axes of one unit around points, with a margin."""
    low, high = points.amin(0), points.amax(0)
    middle, half = (low + high) / 2, 0.65 * (high - low).max().item() + 0.05
    first, second = (Axis(f"weight {i + 1}", m - half, m + half) for i, m in enumerate(middle.tolist()))
    return first, second


def walk(name: str, path: Points) -> Iterator[Line]:
    """A path with a dot after every layer."""
    colour = COLOUR[name.removesuffix(" mask")]
    yield line(name, *path.T, colour=colour)
    yield line("", *path.T, look="points", colour=colour)


def contours(xs: Float[Tensor, "point 2"], best: Float[Tensor, " 2"]) -> Iterator[Line]:
    """Curves of equal loss on the examples; that of the start is one of them."""
    values, vectors = torch.linalg.eigh(xs.T @ xs / len(xs))
    values = values.clamp(min=1e-6 * values[1].item())
    start = (best @ vectors).square() @ values
    angle = torch.linspace(0, 2 * math.pi, 73, dtype=xs.dtype)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    for level in LEVELS:
        ellipse = best + (circle * (level * start / values).sqrt()) @ vectors.T
        yield line("", *ellipse.T, look="dotted", colour=-2)


def example_line(x: Float[Tensor, " 2"], y: Float[Tensor, ""], size: float) -> Line:
    """The weights that fit one example exactly."""
    foot = y * x / x.square().sum().clamp(min=1e-12)
    along = torch.stack([-x[1], x[0]]) / x.norm().clamp(min=1e-6) * 4 * (size + foot.norm())
    return line("", *torch.stack([foot - along, foot + along]).T, look="dashed", colour=-3)


def sentence(state: State, paths: dict[str, Points], best: Tensor, passed: Points) -> str:
    """How far from least squares and from a Kaczmarz pass the paths end."""
    size = max(best.norm().item(), 1e-12)
    prefix, causal = (path[-1] for path in paths.values())
    if not max((prefix - best).norm(), (causal - passed[-1]).norm()) < 4 * size:
        return f"At rate {state.rate:g} the steps overshoot the valley: the path leaves the picture."
    to_best, to_pass = ((a - b).norm().item() / size for a, b in ((prefix, best), (causal, passed[-1])))
    apart = (passed[-1] - best).norm().item() / size
    return (
        f"After {counted(state.depth, 'layer')} the prefix path has {percent(to_best)} of its way down to least "
        f"squares left. The causal path turns to where one Kaczmarz pass ends ({percent(to_pass)} left), which for "
        f"this prompt lies {percent(apart)} away from least squares."
    )


SOURCE = (
    f"One prompt of at most {MOST} examples in two dimensions. Dots: the weights after every layer, exact "
    "(theory.error_step). Grey: curves of equal loss, and for each example the line of weights that fit it, onto "
    "which Kaczmarz projects."
)

PLANE = '''{prompts}
from insitu.learners import CausalDescent, GradientDescent, Kaczmarz

xs, ys = episode.prompt.xs[:1], episode.prompt.ys[:1]


def heights(kind):
    """The second weight after 0, 1, 2, ... layers."""
    return [kind(steps=steps, rate={rate!r}).weights(xs, ys)[0, 0, 1].item() for steps in range({depth} + 1)]


curves = {{
    "Kaczmarz pass": [0.0, *Kaczmarz().prefix_weights(xs, ys)[0, :, 0, 1].tolist()],
    "prefix mask": heights(GradientDescent),
    "causal mask": heights(CausalDescent),
}}
'''

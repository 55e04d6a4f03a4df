"""Figure 1: GPT-2-style decoders trained on fixed and on random covariances, beside linear attention.

Intervals are over test prompts, on which all networks are paired; they speak of these networks, not of others that one
could train.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Figure, Line, Panel, Run, Study, line
from insitu.learners import LeastSquares
from insitu.models import Decoder, DecoderArchitecture, initialise_decoder
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.tasks import FunctionTask, Gaussian, LinearRegression, RandomCovariance, Shifted
from insitu.theory.one_layer.population import Population
from insitu.theory.one_layer.random_covariance import DiagonalCovariances
from insitu.training import Ensemble, Growth, Recipe, forward_operations, train_resumably, training_hours

__all__ = [
    "KINDS",
    "TRAINED_DECODERS",
    "Decoders",
    "error_at",
    "figure",
    "hours_of",
    "level",
    "linear_attention",
    "train_decoders",
]

KINDS = ("fixed", "random")


@dataclass(frozen=True)
class Decoders:
    """Decoders for every kind of training covariance, training length and start, trained as one ensemble.

    Args:
        dim: The dimension d of the inputs.
        lengths: Training lengths N, ascending.
        longest: The longest test length M.
        starts: Networks per kind and length that differ in their start alone; the one whose loss on the last tenth
            of its training is the least is kept, as in practice.
        width: The width of a token.
        layers: The number of blocks.
        heads: Heads per block.
        batch: Prompts per step, of each kind.
        recipe: How long and how fast.
        dims: How the number of coordinates that are not zero grows.
        points: How the number of examples grows.
        positions: The standard deviation of the position embeddings at the start.
        blocks: The standard deviation of the blocks' matrices at the start (see ``initialise_decoder``).
        prompts: Test prompts per panel.
        scales: Factors c on the random test covariance.
    """

    dim: int
    lengths: tuple[int, ...]
    longest: int
    starts: int
    width: int
    layers: int
    heads: int
    batch: int
    recipe: Recipe
    dims: Growth
    points: Growth
    positions: float
    blocks: float | None
    prompts: int
    scales: tuple[float, ...] = (1.0, 4.0, 9.0)


def training_task(kind: str, dim: int) -> FunctionTask:
    """Standard normal inputs, or inputs whose covariance is diagonal with fresh Exp(1) entries."""
    return RandomCovariance(Gaussian(dim)) if kind == "random" else LinearRegression(Gaussian(dim))


def sequences(task: FunctionTask, seed: Seed, batch: int, points: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels of equal standing: the last input is the query of all before it."""
    episode = task.sample(seed, batch, points - 1)
    xs = torch.cat([episode.prompt.xs, episode.prompt.queries], dim=1)
    return xs, torch.cat([episode.prompt.ys, episode.answers], dim=1)


def architecture_of(setting: Decoders) -> DecoderArchitecture:
    """The shape of every decoder."""
    return DecoderArchitecture(setting.dim, setting.longest + 1, setting.width, setting.layers, setting.heads)


def copies_of(setting: Decoders) -> list[tuple[str, int, int]]:
    """The kind, training length and start of every decoder."""
    return [(kind, length, start) for kind in KINDS for length in setting.lengths for start in range(setting.starts)]


def hours_of(setting: Decoders) -> float:
    """The hours of training the decoders, as if all prompts had the length that they grow to."""
    operations = forward_operations(architecture_of(setting), batch=setting.batch, context=setting.lengths[-1])
    return training_hours(len(copies_of(setting)) * operations, setting.recipe.steps)


def train_decoders(run: Run) -> Float[Tensor, "panel kind length prompt point"]:
    """Squared errors of the trained decoders, over d, at every place of test prompts."""
    setting: Decoders = run.setting
    shape, copies = architecture_of(setting), copies_of(setting)
    networks = []
    for copy in copies:
        network = Decoder(shape)
        initialise_decoder(network, run.seed / "start" / repr(copy), setting.positions, setting.blocks)
        networks.append(network.to(run.device))
    ensemble = Ensemble(networks)
    reach = torch.tensor([length for _, length, _ in copies])

    def losses(step: int) -> Float[Tensor, " copy"]:
        longest = setting.points.at(step, setting.lengths[-1] + 1)
        free = setting.dims.at(step, setting.dim)
        batch = {}
        for kind in KINDS:
            task = training_task(kind, setting.dim)
            if free < setting.dim:
                projection = torch.diag((torch.arange(setting.dim) < free).double())
                task = Shifted(task, transform=tuple(map(tuple, projection.tolist())))
            batch[kind] = sequences(task, run.seed / "batch" / step / kind, setting.batch, longest)
        xs, ys = (torch.stack([batch[kind][part] for kind, _, _ in copies]).float().to(run.device) for part in (0, 1))
        # Place i answers from i examples; a network sees no more of them in training than its length.
        counted = (torch.arange(longest) <= reach[:, None]).to(run.device)
        wrong = (ensemble(xs, ys) - ys).square().mean((1, 3))
        return (wrong * counted).sum(1) / counted.sum(1)

    late = torch.zeros(len(copies))
    for step in train_resumably(ensemble, losses, setting.recipe, run.folder):
        if step.index >= 0.9 * setting.recipe.steps:
            late += torch.tensor(step.losses)
    cells = late.view(-1, setting.starts).argmin(1)
    decoders = ensemble.unstack()
    best = [decoders[cell * setting.starts + int(start)] for cell, start in enumerate(cells)]
    panels = torch.stack([errors(best, *panel, run.device) for panel in test_prompts(setting, run.seed)])
    return panels.unflatten(1, (len(KINDS), len(setting.lengths)))


TRAINED_DECODERS = Study("zhang2024.train_decoders", train_decoders)


def test_prompts(setting: Decoders, seed: Seed) -> list[tuple[Tensor, Tensor]]:
    """One panel of the figure after the other: inputs like those of fixed training, then random ones by scale."""
    fixed, random = (training_task(kind, setting.dim) for kind in KINDS)
    # A factor c on the covariance is one of sqrt(c) on the inputs.
    tasks = [fixed, *(Shifted(random, scale=math.sqrt(c)) for c in setting.scales)]
    return [sequences(task, seed / "test", setting.prompts, setting.longest + 1) for task in tasks]


def errors(
    networks: list[Decoder], xs: Float[Tensor, "prompt point dim"], ys: Float[Tensor, "prompt point 1"], device: Any
) -> Float[Tensor, "network prompt point"]:
    """Squared errors over d, of every network at every place."""
    squares = []
    with torch.no_grad():
        for network in networks:
            chunks = zip(xs.split(512), ys.split(512), strict=True)
            answers = torch.cat([network(x.float().to(device), y.float().to(device)).cpu().double() for x, y in chunks])
            squares.append((answers - ys).square()[..., 0] / xs.shape[2])
    return torch.stack(squares)


def error_at(study: Tensor, panel: int, kind: str, length: int, place: int) -> Float[Tensor, " prompt"]:
    """The error at a place, of every prompt; ``length`` counts the trained lengths."""
    return study[panel, KINDS.index(kind), length, :, place]


def linear_attention(setting: Decoders, kind: str, panel: int, training_length: float, test_length: float) -> float:
    """The exact error over d of linear attention trained on a kind, at a panel; both lengths may be infinite."""
    dim = setting.dim
    if kind == "fixed":
        step = Population(torch.eye(dim, dtype=torch.float64), training_length).best_step
    else:
        step = torch.diag(exponential(dim, training_length).best_diagonal())
    if panel == 0:
        plain = Population(torch.eye(dim, dtype=torch.float64), test_length)
        return 2 * plain.loss(step, torch.ones((), dtype=torch.float64)).item() / dim
    return 2 * exponential(dim, test_length).scaled(setting.scales[panel - 1]).loss(step).item() / dim


def exponential(dim: int, length: float) -> DiagonalCovariances:
    return DiagonalCovariances.from_moments(torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64).expand(dim, 3), length)


def level(setting: Decoders, panel: int) -> float:
    """The error over d of answering zero at a panel."""
    return 1.0 if panel == 0 else setting.scales[panel - 1]


def figure(run: Run, panels: tuple[int, ...], caption: str) -> Figure:
    """Panels of the paper's figure 1: error against the number of examples."""
    setting: Decoders = run.setting
    titles = ["identity covariance", *(f"random covariance, c = {c:g}" for c in setting.scales)]
    prompts = test_prompts(setting, run.seed)
    axes = []
    for panel, kind in itertools.product(panels, KINDS):
        zero = level(setting, panel)
        lines = [*decoder_lines(run, panel, kind), fitted_line(*prompts[panel])]
        ends = (0.0, float(setting.longest))
        lines.append(line("zero", ends, (zero, zero), look="dotted", colour=-1))
        limit = linear_attention(setting, kind, panel, math.inf, math.inf)
        if limit <= 1.5 * zero:  # the paper's axes end near the error of zero, too
            lines.append(line("linear attention", ends, (limit, limit), look="dashed", colour=2))
        title = f"{titles[panel]}; trained on {kind}"
        axes.append(Panel("in-context examples", "squared error / d", tuple(lines), title=title))
    alt = "Errors fall with the number of examples and jump up past the training length."
    return Figure(tuple(axes), caption, alt)


def decoder_lines(run: Run, panel: int, kind: str) -> list[Line]:
    """The decoders trained on one kind of covariance, a line for each training length."""
    setting: Decoders = run.setting
    curves = (run.study[panel, KINDS.index(kind), n].mean(0) for n in range(len(setting.lengths)))
    return [
        line(f"trained with N = {length}", range(setting.longest + 1), curve, colour=n)
        for n, (length, curve) in enumerate(zip(setting.lengths, curves, strict=True))
    ]


def fitted_line(xs: Tensor, ys: Tensor) -> Line:
    """Least squares on the first of the prompts, at every place from the examples before it."""
    xs, ys = xs[:512], ys[:512]
    answers = LeastSquares().predict_prefixes(Prompt(xs, ys, xs))[..., 0]
    later = answers.diagonal(offset=1, dim1=1, dim2=2)  # from the first i examples to input i + 1
    error = torch.cat([ys[:, :1, 0], later - ys[:, 1:, 0]], dim=1).square().mean(0) / xs.shape[2]
    return line("least squares", range(xs.shape[1]), error, colour=-1)

"""Networks trained on Haar orthogonal sequences: augmented tokens by depth, plain tokens by heads."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scipy
import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.learners import LeastSquares
from insitu.metrics import Estimate
from insitu.models.sequences import (
    AugmentedArchitecture,
    AugmentedStack,
    HeadsArchitecture,
    Kind,
    PositionedHeads,
    initialise_dense,
)
from insitu.seed import Seed
from insitu.tasks import Autoregression, sequence_prompt
from insitu.training import Ensemble, Recipe, forward_operations, train_resumably, training_hours

__all__ = ["CLAIMS", "Crowds", "Stacks", "prefix_descent", "untrained"]

# The quantities that measurements estimate and rules decide.
FEWEST_HEADS_GAIN = "fewest heads less answering zero"
SMALLEST_GAIN = "more heads less fewer, the smallest gain"
BEST_STEP = "the best gradient step"
BEST_CONSTANT_STEP = "the best constant step"
AS_MANY_STEPS = "as many gradient steps"


def error_difference(layers: int, reference: str) -> str:
    return f"{words(layers)} less {reference}"


def words(layers: int) -> str:
    return {1: "one layer", 2: "two layers"}.get(layers, f"{layers} layers")


Sequences = Float[Tensor, "batch time dim"]


@dataclass(frozen=True)
class Stacks:
    """Networks on augmented tokens, by depth.

    Args:
        dim: The dimension d of an entry.
        length: The number of inputs; sequences hold one entry more.
        pool: Different training sequences.
        batch: Sequences per step.
        recipe: How long and how fast.
        layers: The depths.
        softmax: The depths of networks with softmax attention.
        copies: Starts of each network.
        prompts: Test sequences.
    """

    dim: int
    length: int
    pool: int
    batch: int
    recipe: Recipe
    layers: tuple[int, ...]
    softmax: tuple[int, ...]
    copies: int
    prompts: int


@dataclass(frozen=True)
class Crowds:
    """Networks on plain tokens, by heads; the fields as for :class:`Stacks`."""

    dim: int
    length: int
    pool: int
    batch: int
    recipe: Recipe
    heads: tuple[int, ...]
    copies: int
    prompts: int


Setting = Stacks | Crowds


def stacks_of(setting: Stacks) -> dict[tuple[str, int], AugmentedArchitecture]:
    """The networks on augmented tokens, by attention and depth."""
    depths: dict[Kind, tuple[int, ...]] = {"linear": setting.layers, "softmax": setting.softmax}
    return {
        (kind, layers): AugmentedArchitecture(setting.dim, layers, kind) for kind in depths for layers in depths[kind]
    }


def heads_of(setting: Crowds) -> dict[int, HeadsArchitecture]:
    """The networks on plain tokens, by heads."""
    return {heads: HeadsArchitecture(setting.dim, setting.length, heads) for heads in setting.heads}


def hours_of(setting: Setting, architectures: Iterable[AugmentedArchitecture | HeadsArchitecture]) -> float:
    """The hours of training all copies of such networks, one ensemble after the other."""
    sizes: dict[str, Any] = {"batch": setting.batch, "context": setting.length - 1}
    steps = [setting.copies * forward_operations(architecture, **sizes) for architecture in architectures]
    return round(sum(training_hours(operations, setting.recipe.steps) for operations in steps), 2)


def haar_sequences(seed: Seed, setting: Setting, count: int) -> Sequences:
    """s_1..s_{n+1} from a start of norm one, the same for all."""
    task = Autoregression(setting.dim, "haar", start=(setting.dim**-0.5,) * setting.dim)
    prompt = task.sample(seed, count, setting.length).prompt
    return torch.cat([prompt.xs, prompt.queries], dim=1)


def trained(run: Run, name: str, make: Callable[[], nn.Module]) -> Ensemble[nn.Module]:
    """Copies of a network from several starts, trained as one."""
    setting: Setting = run.setting
    ensemble = untrained(run, name, make)
    pool = haar_sequences(run.seed / "pool", setting, setting.pool).float().to(run.device)

    def losses(step: int) -> Float[Tensor, " copy"]:
        batch = pool[(run.seed / "batches" / step).integers(len(pool), setting.batch).to(run.device)]
        answers = ensemble(batch[:, :-1].expand(setting.copies, -1, -1, -1))
        return (answers - batch[:, 1:]).square().mean((1, 2, 3))

    folder: Path | None = run.folder and run.folder / name
    for _ in train_resumably(ensemble, losses, setting.recipe, folder):
        pass
    return ensemble


def untrained(run: Run, name: str, make: Callable[[], nn.Module]) -> Ensemble[nn.Module]:
    """The same copies at their starts."""
    networks = []
    for copy in range(run.setting.copies):
        network = make()
        initialise_dense(network, run.seed / "start" / name / copy)
        networks.append(network.to(run.device))
    return Ensemble(networks)


@torch.no_grad()
def held_out_errors(ensemble: Ensemble[nn.Module], test: Sequences, copies: int) -> Float[Tensor, " sequence"]:
    """The mean squared error of every test sequence over entries and coordinates, and over copies."""
    errors = torch.zeros(len(test), dtype=torch.float64)
    device = ensemble.trained[0].device
    for start in range(0, len(test), 256):
        part = test[start : start + 256].float().to(device)
        answers = ensemble(part[:, :-1].expand(copies, -1, -1, -1))
        errors[start : start + 256] = (answers - part[:, 1:]).double().square().mean((0, 2, 3)).cpu()
    return errors


def prefix_descent(sequence: Sequences, steps: int, rates: Float[Tensor, " row"]) -> Float[Tensor, "batch row dim"]:
    r"""Gradient descent on the loss of every prefix: the predictions of s_2, ..., s_{n+1}.

    From W = 0 with the rate on the sum,
    :math:`W_L s_T = \eta_T \sum_{t<T} s_{t+1} s_t^\top \sum_{l<L} (I - \eta_T G_T)^l s_T`
    with :math:`G_T = \sum_{t<T} s_t s_t^\top`.
    """
    inputs, outputs = sequence[:, :-1], sequence[:, 1:]
    empty = torch.zeros_like(inputs[:, :1, :, None] * inputs[:, :1, None])
    gram = torch.cat([empty, (inputs[:, :, :, None] * inputs[:, :, None]).cumsum(1)[:, :-1]], dim=1)
    cross = torch.cat([empty, (outputs[:, :, :, None] * inputs[:, :, None]).cumsum(1)[:, :-1]], dim=1)
    eta = rates[:, None]
    state, total = inputs, torch.zeros_like(inputs)
    for _ in range(steps):
        total = total + state
        state = state - eta * (gram @ state[..., None])[..., 0]
    return eta * (cross @ total[..., None])[..., 0]


def rates_by_length(rate: float, length: int) -> Tensor:
    """One rate divided by the number of examples of a prefix; a prefix without any is answered by zero."""
    return rate / torch.arange(length, dtype=torch.float64).clamp(min=1)


def constant_rates(rate: float, length: int) -> Tensor:
    return torch.full((length,), rate, dtype=torch.float64)


def best_descent(
    fit: Sequences, test: Sequences, steps: int, rates: Callable[[float, int], Tensor], largest: float
) -> Float[Tensor, " sequence"]:
    """The test errors of so many steps at the one number that is best on other sequences."""
    length = fit.shape[1] - 1

    def error(rate: float) -> float:
        return (prefix_descent(fit, steps, rates(rate, length)) - fit[:, 1:]).square().mean().item()

    best = scipy.optimize.minimize_scalar(error, bounds=(0.0, largest), method="bounded", options={"xatol": 1e-4})
    return (prefix_descent(test, steps, rates(float(best.x), length)) - test[:, 1:]).square().mean((1, 2))


def least_squares_error(test: Sequences) -> float:
    """The error of least squares on every prefix."""
    total = test[:, 1].square().mean(1)
    for length in range(2, test.shape[1]):
        answers = LeastSquares().predict(sequence_prompt(test[:, :length]))[:, 0]
        total = total + (answers - test[:, length]).square().mean(1)
    return total.mean().item() / (test.shape[1] - 1)


Train = Callable[[Run, str, Callable[[], nn.Module]], Ensemble[nn.Module]]


def depth_beats_descent(run: Run, *, train: Train = trained) -> Measurement:
    """Test errors of trained stacks by depth, beside as many gradient steps, paired on the same sequences."""
    setting: Stacks = run.setting
    test = haar_sequences(run.seed / "test", setting, setting.prompts)
    fit = haar_sequences(run.seed / "fitted", setting, setting.prompts)
    errors = {}
    for (kind, layers), architecture in stacks_of(setting).items():
        ensemble = train(run, f"{kind}-{layers}", functools.partial(AugmentedStack, architecture))
        errors[kind, layers] = held_out_errors(ensemble, test, setting.copies)
    # Entries have norm one, so that a mean term of the loss has curvature 1 at most in any direction.
    by_length = {n: best_descent(fit, test, n, rates_by_length, 2.0 * setting.dim) for n in setting.layers}
    constant = {n: best_descent(fit, test, n, constant_rates, 2.0) for n in setting.layers}
    lines = []
    for colour, (kind, depths) in enumerate((("linear", setting.layers), ("softmax", setting.softmax))):
        if not depths:
            continue
        means = [Estimate.mean(errors[kind, layers]) for layers in depths]
        low, high = zip(*(e.interval() for e in means), strict=True)
        lines.append(line(f"trained, {kind}", depths, [e.value for e in means], low=low, high=high, colour=colour))
    names = {"gradient steps, rate over length": by_length, "gradient steps, constant rate": constant}
    for colour, (label, steps) in enumerate(names.items(), start=2):
        lines.append(line(label, tuple(steps), [e.mean().item() for e in steps.values()], look="dashed", colour=colour))
    ends = [setting.layers[0], setting.layers[-1]]
    lines.append(line("least squares", ends, [least_squares_error(test)] * 2, look="dotted", colour=-1))
    figure = Figure(
        (Panel("layers, or gradient steps", "mean squared error", tuple(lines), y_scale="log"),),
        f"Trained networks on augmented tokens, O({setting.dim}), {setting.length} inputs; bands are intervals over "
        "test sequences.",
        "Errors fall with depth; one and two trained linear layers lie below as many gradient steps.",
    )
    first, second = setting.layers[:2]
    one, two = errors["linear", first], errors["linear", second]
    estimates = {
        error_difference(first, BEST_STEP): Estimate.mean(one - by_length[first]),
        error_difference(first, BEST_CONSTANT_STEP): Estimate.mean(one - constant[first]),
        error_difference(second, AS_MANY_STEPS): Estimate.mean(two - by_length[second]),
        error_difference(second, words(first)): Estimate.mean(two - one),
    }
    notes = tuple(f"{kind}, {words(layers)}: error {e.mean():.4f}." for (kind, layers), e in errors.items())
    return Measurement(estimates, figure, notes)


def heads_help(run: Run, *, train: Train = trained) -> Measurement:
    """Test errors of trained heads on plain tokens, by how many."""
    setting: Crowds = run.setting
    test = haar_sequences(run.seed / "test", setting, setting.prompts)
    errors = {}
    for heads, architecture in heads_of(setting).items():
        ensemble = train(run, f"heads-{heads}", functools.partial(PositionedHeads, architecture))
        errors[heads] = held_out_errors(ensemble, test, setting.copies)
    zero = test[:, 1:].square().mean((1, 2))
    means = [Estimate.mean(e) for e in errors.values()]
    low, high = zip(*(e.interval() for e in means), strict=True)
    lines = (
        line("trained", setting.heads, [e.value for e in means], low=low, high=high),
        line(
            "answering zero", [setting.heads[0], setting.heads[-1]], [zero.mean().item()] * 2, look="dotted", colour=-1
        ),
    )
    figure = Figure(
        (Panel("heads", "mean squared error", lines, x_scale="log"),),
        f"Trained heads on plain tokens with learned positions, O({setting.dim}), {setting.length} inputs; bands are "
        "intervals over test sequences.",
        "The error falls with the number of heads.",
    )
    pairs = list(zip(setting.heads, setting.heads[1:], strict=False))
    steps = [Estimate.mean(errors[more] - errors[fewer]) for fewer, more in pairs]
    estimates = {
        FEWEST_HEADS_GAIN: Estimate.mean(errors[setting.heads[0]] - zero),
        SMALLEST_GAIN: max(steps, key=lambda e: e.interval()[1]),
    }
    notes = tuple(f"{heads} heads: error {e.mean():.4f}." for heads, e in errors.items())
    return Measurement(estimates, figure, notes)


FULL_STACKS = Stacks(
    dim=5,
    length=50,
    pool=2**14,
    batch=1024,
    recipe=Recipe(steps=3200, rate=1e-2),
    layers=(1, 2, 3, 4, 6, 10),
    softmax=(1, 2, 3, 4, 6, 10),
    copies=8,
    prompts=1024,
)
FULL_CROWDS = Crowds(
    dim=5,
    length=50,
    pool=2**14,
    batch=1024,
    recipe=Recipe(steps=3200, rate=1e-2),
    heads=(1, 2, 4, 8, 16, 32, 64),
    copies=4,
    prompts=1024,
)

CLAIMS = (
    Claim(
        id="sander2024.trained-depth-beats-descent",
        statement="Networks trained on augmented tokens of sequences with Haar orthogonal W, which do not commute, "
        "have a smaller error than as many gradient steps with the best rate. Two layers have a smaller error than "
        "one.",
        source="Figure 5, augmented tokens",
        rules=(
            Rule(error_difference(1, BEST_STEP), high=0.0),
            Rule(error_difference(1, BEST_CONSTANT_STEP), high=0.0),
            Rule(error_difference(2, AS_MANY_STEPS), high=0.0),
            Rule(error_difference(2, words(1)), high=0.0),
        ),
        measure=depth_beats_descent,
        quick=Stacks(
            dim=5,
            length=50,
            pool=4096,
            batch=32,
            recipe=Recipe(steps=1000, rate=1e-2, warmup=0.05, decay="cosine"),
            layers=(1, 2, 3),
            softmax=(1,),
            copies=1,
            prompts=1024,
        ),
        full=FULL_STACKS,
        quick_seconds=17,
        full_hours=hours_of(FULL_STACKS, stacks_of(FULL_STACKS).values()),
        reduced="batches of 32 with a decaying rate, and up to three layers, one start each.",
    ),
    Claim(
        id="sander2024.heads-help-plain-tokens",
        statement="One layer trained on plain tokens with learned positions predicts sequences with Haar orthogonal W "
        "better, the more heads it has.",
        source="Figure 7, tokens that are not augmented",
        rules=(
            Rule(FEWEST_HEADS_GAIN, high=0.0),
            Rule(SMALLEST_GAIN, high=0.0),
        ),
        measure=heads_help,
        quick=Crowds(
            dim=5,
            length=20,
            pool=4096,
            batch=64,
            recipe=Recipe(steps=600, rate=1e-2, warmup=0.05, decay="cosine"),
            heads=(1, 4, 16),
            copies=1,
            prompts=1024,
        ),
        full=FULL_CROWDS,
        quick_seconds=8.6,
        full_hours=hours_of(FULL_CROWDS, heads_of(FULL_CROWDS).values()),
        reduced="sequences of 20 in place of 50, batches of 64 with a decaying rate, at most 16 of 64 heads.",
    ),
)

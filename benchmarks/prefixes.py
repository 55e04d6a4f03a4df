r"""Side by side: every prefix at once against the common way, and linear attention by moments against by matrices.

Two pieces of work that every study in context repeats, each done in two ways on the same numbers:

* least squares and ridge regression from every prefix of a prompt: by one recursive pass over the examples, as
  :mod:`insitu.learners.least_squares` does, and by refitting each prefix, as most published code does: a Python
  loop over prefixes around a batched solver, or around scikit-learn for one sequence at a time;
* one layer of linear attention over a long context: by the moments :math:`\sum_i v_i k_i^\top`, as
  :class:`insitu.models.LinearAttention` does, and by the full masked matrix of scores.

Before anything is timed the ways are checked to agree. All of them run in one process on one torch thread, one
after the other in every round, so that a busy machine slows them alike; the numbers to read are the ratios, each
the median over rounds of the ratio within a round.

    python benchmarks/prefixes.py [--rounds 7]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from sklearn.linear_model import Ridge as SklearnRidge
from threadpoolctl import threadpool_limits
from torch import Tensor

from insitu import Seed
from insitu.learners import LeastSquares, Ridge
from insitu.models import Causal, LinearAttention, Mask, MergedMaps, Prefix
from insitu.tasks import Gaussian, LinearRegression

Ways = Mapping[str, Callable[[], Tensor]]

PENALTY = 0.25
SIZES = ((256, 41, 20), (1280, 41, 20))
FEW = 32
LENGTHS = (256, 512, 1024, 2048, 4096)
# Short calls are repeated until they fill this many seconds.
LEAST = 0.02


def examples(batch: int, points: int, dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Noisy linear functions of Gaussian inputs."""
    task = LinearRegression(Gaussian(dim), noise=0.5)
    prompt = task.sample(Seed(0) / "benchmark", batch, points).prompt.to(dtype)
    return prompt.xs, prompt.ys


def refit_least_squares(xs: Tensor, ys: Tensor) -> Tensor:
    """The common way: one batched solve per prefix, by the driver that allows fewer examples than dimensions."""
    fits = [torch.linalg.lstsq(xs[:, :k], ys[:, :k], driver="gelsy").solution for k in range(1, xs.shape[1] + 1)]
    return torch.stack(fits, dim=1).mT


def refit_ridge(xs: Tensor, ys: Tensor) -> Tensor:
    """The common way: the normal equations of every prefix, built and solved anew."""
    penalty = PENALTY * torch.eye(xs.shape[2], dtype=xs.dtype)
    fits = []
    for k in range(1, xs.shape[1] + 1):
        x, y = xs[:, :k], ys[:, :k]
        fits.append(torch.linalg.solve(x.mT @ x + penalty, x.mT @ y))
    return torch.stack(fits, dim=1).mT


def refit_ridge_by_sequence(xs: Tensor, ys: Tensor) -> Tensor:
    """The common way where scikit-learn is at hand: one estimator per prefix and sequence."""
    fits = torch.empty(*xs.shape[:2], ys.shape[2], xs.shape[2], dtype=xs.dtype)
    for b in range(xs.shape[0]):
        x, y = xs[b].numpy(), ys[b].numpy()
        for k in range(1, xs.shape[1] + 1):
            model = SklearnRidge(alpha=PENALTY, fit_intercept=False).fit(x[:k], y[:k])
            fits[b, k - 1] = torch.from_numpy(model.coef_)
    return fits


def by_matrix(layer: LinearAttention, tokens: Tensor, mask: Mask, context: int) -> Tensor:
    """The common way: all scores, zeroed where the mask hides, times the values."""
    query, key, value = layer.maps(tokens)
    scores = (query @ key.mT) * mask.visible(context, tokens.shape[1] - context)
    return layer.maps.join(scores @ value) / context


def seconds(way: Callable[[], Tensor], calls: int = 1) -> float:
    """How long a call takes, as the mean of several."""
    start = time.perf_counter()
    for _ in range(calls):
        way()
    return (time.perf_counter() - start) / calls


def compare(title: str, ways: Ways, rounds: int, tolerance: float) -> None:
    """Check that all ways agree with the first, time them in turn, and print medians and ratios to the first."""
    ours, *others = ways
    answer = ways[ours]()
    for other in others:
        gap = (ways[other]() - answer).abs().max() / answer.abs().max()
        if not gap <= tolerance:
            raise RuntimeError(f"{title}: {other} differs from {ours} by {gap:.1e} of the largest number")
    calls = {name: math.ceil(LEAST / seconds(way)) for name, way in ways.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(seconds(way, calls[name]))
    print(title)
    for name, times in taken.items():
        ratio = statistics.median(t / first for t, first in zip(times, taken[ours], strict=True))
        print(f"  {name:<44} {statistics.median(times) * 1e3:9.1f} ms {ratio:8.1f} x")


def compare_prefixes(rounds: int) -> None:
    """Least squares and ridge at every prefix."""
    for batch, points, dim in SIZES:
        shape = f"batch {batch}, {points} points, dimension {dim}"
        xs, ys = examples(batch, points, dim, torch.float64)
        single = xs.float(), ys.float()
        squares = {
            "LeastSquares().prefix_weights, float64": lambda xs=xs, ys=ys: LeastSquares().prefix_weights(xs, ys),
            "loop of torch.linalg.lstsq, float64": lambda xs=xs, ys=ys: refit_least_squares(xs, ys),
        }
        compare(f"least squares at every prefix, {shape}", squares, rounds, tolerance=1e-6)
        # Single precision cannot agree where examples are as many as dimensions; it is timed, not checked.
        faster = {
            "LeastSquares().prefix_weights, float64": squares["LeastSquares().prefix_weights, float64"],
            "loop of torch.linalg.lstsq, float32": lambda s=single: refit_least_squares(*s),
        }
        compare(f"the same, the loop in single precision, {shape}", faster, rounds, tolerance=float("inf"))
        ridge = {
            "Ridge(penalty=0.25).prefix_weights, float64": lambda xs=xs, ys=ys: Ridge(PENALTY).prefix_weights(xs, ys),
            "loop of torch.linalg.solve, float64": lambda xs=xs, ys=ys: refit_ridge(xs, ys),
        }
        compare(f"ridge at every prefix, {shape}", ridge, rounds, tolerance=1e-9)
    _, points, dim = SIZES[0]
    xs, ys = examples(FEW, points, dim, torch.float64)
    ridge = {
        "Ridge(penalty=0.25).prefix_weights, float64": lambda: Ridge(PENALTY).prefix_weights(xs, ys),
        "sklearn Ridge per prefix and sequence": lambda: refit_ridge_by_sequence(xs, ys),
    }
    compare(f"ridge at every prefix, batch {FEW}, {points} points, dimension {dim}", ridge, rounds, tolerance=1e-9)


def compare_attention(rounds: int) -> None:
    """One layer of linear attention in single precision, the precision of training."""
    width, batch, queries = 21, 2, 20
    layer = LinearAttention(MergedMaps(width))
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(0.3 * (Seed(0) / name).normal(*parameter.shape))
        for mask in (Prefix(), Causal()):
            for context in LENGTHS:
                tokens = (Seed(0) / "tokens" / context).normal(batch, context + queries, width).float()
                ways = {
                    "LinearAttention": lambda t=tokens, m=mask, n=context: layer(t, m, n),
                    "masked matrix of scores": lambda t=tokens, m=mask, n=context: by_matrix(layer, t, m, n),
                }
                title = f"linear attention, {mask}, context {context}, batch {batch}, width {width}"
                compare(title, ways, rounds, tolerance=1e-3)


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description="Times the library beside the common way of doing the same work.")
    parser.add_argument("--rounds", type=int, default=7, help="rounds to take the median of")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    # scikit-learn brings linear algebra of its own.
    with threadpool_limits(1):
        compare_prefixes(rounds)
        compare_attention(rounds)


if __name__ == "__main__":
    main()

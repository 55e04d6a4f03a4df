"""Families that average or interpolate the labels of nearby examples."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch

from insitu.identification.family import Family, Free, Many, Numbers, in_parts
from insitu.identification.spectra import PromptView
from insitu.learners import GaussianProcess, KernelSmoother, Learner, NearestNeighbours, SoftmaxSmoother
from insitu.learners.kernels import KERNELS

__all__ = ["KernelFamily", "NeighbourFamily", "ProcessFamily", "SoftmaxFamily"]


@final
@dataclass(frozen=True)
class NeighbourFamily(Family):
    """Nearest neighbours."""

    whole: str = "k"
    free: tuple[Free, ...] = ()

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return NearestNeighbours(k=count)

    def counts(self, view: PromptView) -> Sequence[int]:
        return range(1, max(2, view.prompt.points))

    def reach(self, view: PromptView) -> tuple[int, int]:
        # With all examples as neighbours the answer is their mean, however many more are asked for.
        return 1, view.prompt.points

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        ranked = view.distances.argsort(dim=-1, stable=True)[..., : counts[-1]]
        labels = view.prompt.ys[:, None].expand(-1, ranked.shape[1], -1, -1).take_along_dim(ranked[..., None], dim=2)
        summed = labels.cumsum(2)
        for count in counts:
            near = min(count, summed.shape[2])
            yield summed[None, :, :, near - 1] / near


@final
@dataclass(frozen=True)
class KernelFamily(Family):
    """The Gaussian-kernel average."""

    whole: str = ""
    free: tuple[Free, ...] = (Free("bandwidth", "length", 1e-2, 30.0, 60),)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return KernelSmoother(bandwidth=numbers[0])

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        widths = torch.tensor(places, dtype=torch.float64)[:, :, None, None]
        yield from [(-view.distances / (2 * widths**2)).softmax(-1) @ view.prompt.ys] * len(counts)


@final
@dataclass(frozen=True)
class SoftmaxFamily(Family):
    """Softmax attention on inputs as they are."""

    whole: str = ""
    free: tuple[Free, ...] = (Free("scale", "product", 1e-2, 100.0, 40),)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return SoftmaxSmoother(scale=numbers[0])

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        p, scales = view.prompt, torch.tensor(places, dtype=torch.float64)[:, :, None, None]
        yield from [(scales * (p.queries @ p.xs.mT)).softmax(-1) @ p.ys] * len(counts)


@final
@dataclass(frozen=True)
class ProcessFamily(Family):
    """A Gaussian process with one kernel."""

    kernel: str = "rbf"
    whole: str = ""
    free: tuple[Free, ...] = (Free("length_scale", "length", 0.2, 10.0, 9), Free("penalty", "none", 1e-3, 10.0, 7))

    @property
    def special(self) -> bool:  # type: ignore[override]
        """Whether its kernel is not the usual one."""
        return self.kernel != "rbf"

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return GaussianProcess(length_scale=numbers[0], penalty=numbers[1], kernel=self.kernel)

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        p = view.prompt
        found = in_parts(functools.partial(self._answers, view), places, p.batch * p.points**2)
        yield from [found] * len(counts)

    def _answers(self, view: PromptView, places: Sequence[Numbers]) -> Many:
        lengths, penalties = torch.tensor(places, dtype=torch.float64)[:, :, None, None, None].unbind(1)
        kernel = KERNELS[self.kernel]
        unit = penalties * torch.eye(view.prompt.points, dtype=torch.float64)
        factors, failed = torch.linalg.cholesky_ex(kernel(view.gaps / lengths) + unit)
        ys = view.prompt.ys.expand(len(places), *view.prompt.ys.shape)
        answers = kernel(view.distances.sqrt() / lengths) @ torch.cholesky_solve(ys, factors)
        # A penalty so small that the matrix is singular is no process.
        return torch.where((failed > 0)[..., None, None], torch.nan, answers)

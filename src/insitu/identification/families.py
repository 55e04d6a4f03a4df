"""All families, in the order of preference where two answer alike and have equally many free numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from insitu.identification.family import Family, Fixed, Free, Many, Numbers
from insitu.identification.local_families import KernelFamily, NeighbourFamily, ProcessFamily, SoftmaxFamily
from insitu.identification.ordered_families import (
    CausalFamily,
    ForgettingFamily,
    KaczmarzFamily,
    OnlineFamily,
    RecentMeanFamily,
)
from insitu.identification.spectra import PromptView
from insitu.identification.spectral_families import (
    AcceleratedFamily,
    ComponentsFamily,
    DescentFamily,
    LeastSquaresFamily,
    NewtonFamily,
    PlusFamily,
    RidgeFamily,
)
from insitu.learners import (
    ConjugateGradient,
    Learner,
    LogisticRegression,
    Mean,
    Momentum,
    Nesterov,
    NoiseMixture,
    Zero,
)

__all__ = ["FAMILIES", "NOT_FITTED", "ConjugateFamily", "LevelsFamily", "LogisticFamily"]

NOT_FITTED = {"FinitePool": "its functions are as many numbers as the pool has; give it as a candidate with its pool"}
"""Learners without a family, each with the reason."""


@final
@dataclass(frozen=True)
class ConjugateFamily(Family):
    """Conjugate gradients."""

    whole: str = "steps"
    free: tuple[Free, ...] = ()

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return ConjugateGradient(steps=count)

    def counts(self, view: PromptView) -> range:
        return range(1, max(2, view.prompt.dim))

    def reach(self, view: PromptView) -> tuple[int, int]:
        # After as many steps as dimensions it is least squares, however many more are taken.
        return 1, view.prompt.dim

    def answers(self, view: PromptView, count: int, numbers: Numbers) -> Tensor:
        return self.learner(count, numbers).predict(view.prompt)


@final
@dataclass(frozen=True)
class LevelsFamily(Family):
    """Bayes over two levels of label noise, equally likely."""

    special: bool = True
    whole: str = ""
    free: tuple[Free, ...] = (
        Free("noises", "none", 0.03, 1.0, 5),
        Free("noises", "none", 0.3, 5.0, 5),
        Free("weight_std", "none", 0.3, 3.0, 5),
    )

    def ordered(self, numbers: Numbers) -> Numbers:
        return (*sorted(numbers[:2]), *numbers[2:])

    def learner(self, count: int, numbers: Numbers) -> Learner:
        low, high, std = self.ordered(numbers)
        return NoiseMixture(noises=(low, high), weight_std=std)

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        sizes, kept, _ = view.spectrum
        *noises, std = torch.tensor([self.ordered(p) for p in places], dtype=torch.float64)[:, :, None, None].unbind(1)
        variances = torch.where(kept, (std * sizes).square(), 0.0)
        outside = (view.prompt.ys.square().sum(1) - view.labels.square().sum(2)).clamp(min=0).sum(1)
        rest, out = view.prompt.points - sizes.shape[1], view.prompt.out
        evidence, answers = [], []
        for noise in noises:
            total = variances + noise**2
            misfit = (view.labels.square() / total[:, :, None]).sum((-2, -1)) + outside / noise[:, 0] ** 2
            spread = out * (total.log().sum(-1) + 2 * rest * noise[:, 0].log())
            evidence.append(-(misfit + spread) / 2)
            answers.append(view.with_gains(variances / total / sizes))
        shares = torch.stack(evidence).softmax(0)[..., None, None]
        yield from [(shares * torch.stack(answers)).sum(0)] * len(counts)


@final
@dataclass(frozen=True)
class LogisticFamily(Family):
    """Logistic regression, for classes."""

    whole: str = ""
    free: tuple[Free, ...] = (Free("penalty", "sum of squares", 1e-4, 30.0, 12),)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return LogisticRegression(penalty=numbers[0])

    def answers(self, view: PromptView, count: int, numbers: Numbers) -> Tensor:
        return LogisticRegression(penalty=numbers[0]).predict(view.prompt)


FAMILIES: tuple[Family, ...] = (
    Fixed(Zero()),
    Fixed(Mean()),
    LeastSquaresFamily(),
    KaczmarzFamily(single=True),
    DescentFamily(single=True),
    RidgeFamily(),
    OnlineFamily(single=True),
    LeastSquaresFamily(intercept=True),
    ComponentsFamily(),
    ConjugateFamily(),
    NeighbourFamily(),
    KernelFamily(),
    SoftmaxFamily(),
    NewtonFamily(),
    KaczmarzFamily(),
    LogisticFamily(),
    DescentFamily(),
    CausalFamily(),
    RidgeFamily(intercept=True),
    RidgeFamily(per_example=True),
    DescentFamily(single=True, intercept=True),
    OnlineFamily(),
    OnlineFamily(decays=True, single=True),
    RecentMeanFamily(),
    ForgettingFamily(),
    ProcessFamily("rbf"),
    ProcessFamily("matern-1/2"),
    ProcessFamily("matern-3/2"),
    ProcessFamily("matern-5/2"),
    CausalFamily(per_place=True),
    DescentFamily(intercept=True),
    AcceleratedFamily(Momentum),
    AcceleratedFamily(Nesterov),
    PlusFamily(),
    LevelsFamily(),
    OnlineFamily(decays=True),
)

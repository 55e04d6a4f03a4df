"""Linear regression whose input covariance is drawn anew for every prompt."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count, require_not_negative, require_one_of
from insitu.seed import Seed
from insitu.tasks.law import Law
from insitu.tasks.regression import with_noise
from insitu.tasks.task import FunctionTask

__all__ = ["RandomCovariance", "Spectrum"]

Spectrum = Literal["exponential", "uniform", "lognormal"]

# Each has mean 1: -log of a uniform number, twice a uniform number, the exponential of a N(-1/2, 1) number.
DRAWS: dict[str, Callable[[Seed, int, int], Tensor]] = {
    "exponential": lambda seed, batch, dim: -torch.log1p(-seed.uniform(batch, dim)),
    "uniform": lambda seed, batch, dim: 2 * seed.uniform(batch, dim),
    "lognormal": lambda seed, batch, dim: (seed.normal(batch, dim) - 0.5).exp(),
}


@final
@dataclass(frozen=True)
class RandomCovariance(FunctionTask):
    r"""Linear functions of :math:`x = \mathrm{diag}(\lambda)^{1/2} z`, with :math:`\lambda` fresh for every prompt.

    The entries of :math:`\lambda` are independent with mean 1; the queries of a prompt share it. The latent of a prompt
    has the rows of its weights, which are standard normal, and last :math:`\lambda`.

    Args:
        law: The law of z; standard normal inputs then have the covariance :math:`\mathrm{diag}(\lambda)`.
        spectrum: The law of an entry: *exponential* is Exp(1), *uniform* is on [0, 2], *lognormal* is
            :math:`e^{z - 1/2}` with z standard normal.
        noise: The standard deviation of the label noise.
        out: The number of outputs.

    References:
        Zhang, Frei and Bartlett (2024), definition 4.4 and figure 1.

    Example:
        >>> from insitu.tasks import Gaussian
        >>> episode = RandomCovariance(Gaussian(3)).sample(Seed(0), batch=2, points=5)
        >>> weights, spectra = episode.latent[:, :-1], episode.latent[:, -1]
        >>> torch.equal(episode.prompt.ys, episode.prompt.xs @ weights.mT)
        True
    """

    law: Law
    spectrum: Spectrum = "exponential"
    noise: float = 0.0
    out: int = 1

    def __post_init__(self) -> None:
        require_count("RandomCovariance", "out", self.out, least=1)
        require_one_of("RandomCovariance", "spectrum", self.spectrum, get_args(Spectrum))
        require_not_negative("RandomCovariance", "noise", self.noise)

    @property
    def dim(self) -> int:
        return self.law.dim

    def functions(self, seed: Seed, batch: int) -> Float[Tensor, "batch row dim"]:
        spectra = DRAWS[self.spectrum](seed / "spectra", batch, self.dim)
        return torch.cat([(seed / "weights").normal(batch, self.out, self.dim), spectra[:, None]], dim=1)

    def inputs(self, seed: Seed, functions: Tensor, count: int) -> Tensor:
        return self.law.draw(seed, len(functions), count) * functions[:, -1:].sqrt()

    def questions(self, seed: Seed, functions: Tensor, count: int) -> Tensor:
        return self.inputs(seed, functions, count)

    def values(self, functions: Tensor, xs: Tensor) -> Tensor:
        return xs @ functions[:, :-1].mT

    def observe(self, seed: Seed, values: Tensor) -> Tensor:
        return with_noise(seed, values, self.noise)

    def arrange(self, seed: Seed, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
        return xs, ys

"""A task whose functions come from a fixed finite pool."""

from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count
from insitu.seed import Seed
from insitu.tasks.task import FunctionTask

__all__ = ["Pool"]


@final
@dataclass(frozen=True)
class Pool(FunctionTask):
    """The same task, its functions drawn uniformly from ``size`` fixed ones (Raventos et al., 2023).

    Args:
        task: The task from which the pool is drawn.
        size: The number of functions in the pool.
        seed: The seed of the pool; episodes have their own.

    Example:
        >>> from insitu.tasks import Gaussian, LinearRegression
        >>> pool = Pool(LinearRegression(Gaussian(4)), size=8, seed=Seed(1))
        >>> tuple(pool.members().shape)
        (8, 1, 4)
    """

    task: FunctionTask
    size: int
    seed: Seed

    def __post_init__(self) -> None:
        require_count("Pool", "size", self.size, least=1)

    @property
    def dim(self) -> int:
        return self.task.dim

    @property
    def out(self) -> int:
        return self.task.out

    def members(self) -> Float[Tensor, "size *latent"]:
        """The functions of the pool."""
        return self.task.functions(self.seed / "pool", self.size)

    def functions(self, seed: Seed, batch: int) -> Tensor:
        return self.members()[seed.integers(self.size, batch)]

    def inputs(self, seed: Seed, functions: Tensor, count: int) -> Tensor:
        return self.task.inputs(seed, functions, count)

    def questions(self, seed: Seed, functions: Tensor, count: int) -> Tensor:
        return self.task.questions(seed, functions, count)

    def values(self, functions: Tensor, xs: Tensor) -> Tensor:
        return self.task.values(functions, xs)

    def observe(self, seed: Seed, values: Tensor) -> Tensor:
        return self.task.observe(seed, values)

    def arrange(self, seed: Seed, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
        return self.task.arrange(seed, xs, ys)

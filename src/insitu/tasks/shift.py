"""Distribution shifts at test time."""

from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from torch import Tensor

from insitu.errors import InputError, require_not_negative, require_one_of
from insitu.seed import Seed
from insitu.tasks.law import Law
from insitu.tasks.task import FunctionTask

__all__ = ["Shifted"]

Order = Literal["as drawn", "reversed", "by label", "by norm", "shuffled"]


@final
@dataclass(frozen=True)
class Shifted(FunctionTask):
    r"""A task with shifted inputs, queries, noise or order, and the same functions.

    The shifts are those of Zhang, Frei and Bartlett (2024, section 4.2) and Garg et al. (2022): inputs become
    :math:`x \mapsto c A x` and labels follow the function at the changed input.

    Args:
        task: The task to shift.
        scale: The factor :math:`c` on inputs and queries (covariate shift).
        transform: The rows of :math:`A`, which turns a covariance :math:`\Lambda` into
            :math:`A \Lambda A^\top` (covariate shift).
        query_law: The law of the queries (query shift), not scaled or transformed (default: the task's).
        noise: Standard deviation of additional label noise (task shift).
        order: The order of the examples; *by norm* is ascending in :math:`\|x\|`, *by label* ascending in
            the first output.

    Raises:
        InputError: If the scale or noise is negative, or the transform or the query law has another dimension.

    Example:
        >>> from insitu import Seed
        >>> from insitu.tasks import Gaussian, LinearRegression
        >>> plain = LinearRegression(Gaussian(4))
        >>> a, b = (t.sample(Seed(0), 2, 8).prompt.xs for t in (plain, Shifted(plain, scale=3.0)))
        >>> torch.equal(3 * a, b)
        True
    """

    task: FunctionTask
    scale: float = 1.0
    transform: tuple[tuple[float, ...], ...] | None = None
    query_law: Law | None = None
    noise: float = 0.0
    order: Order = "as drawn"

    def __post_init__(self) -> None:
        require_not_negative("Shifted", "scale", self.scale, zero=False)
        require_not_negative("Shifted", "noise", self.noise)
        require_one_of("Shifted", "order", self.order, get_args(Order))
        dim = self.task.dim
        if self.transform is not None and torch.tensor(self.transform).shape != (dim, dim):
            raise InputError(
                f"Shifted: transform must have {dim} rows of {dim} numbers; got {len(self.transform)} rows."
            )
        if self.query_law is not None and self.query_law.dim != dim:
            raise InputError(f"Shifted: query_law has dim {self.query_law.dim}, the task {dim}; they must agree.")

    @property
    def dim(self) -> int:
        return self.task.dim

    @property
    def out(self) -> int:
        return self.task.out

    def functions(self, seed: Seed, batch: int) -> Tensor:
        return self.task.functions(seed, batch)

    def inputs(self, seed: Seed, functions: Tensor, count: int) -> Tensor:
        return self._moved(self.task.inputs(seed, functions, count))

    def questions(self, seed: Seed, functions: Tensor, count: int) -> Tensor:
        if self.query_law is not None:
            return self.query_law.draw(seed, len(functions), count)
        return self._moved(self.task.questions(seed, functions, count))

    def values(self, functions: Tensor, xs: Tensor) -> Tensor:
        return self.task.values(functions, xs)

    def observe(self, seed: Seed, values: Tensor) -> Tensor:
        labels = self.task.observe(seed, values)
        return labels + self.noise * self._own(seed).normal(*labels.shape).to(labels)

    def arrange(self, seed: Seed, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
        xs, ys = self.task.arrange(seed, xs, ys)
        ranks = {
            "as drawn": lambda: torch.arange(xs.shape[1]).expand(xs.shape[:2]),
            "reversed": lambda: torch.arange(xs.shape[1]).flip(0).expand(xs.shape[:2]),
            "by label": lambda: ys[..., 0].argsort(dim=1, stable=True),
            "by norm": lambda: xs.norm(dim=-1).argsort(dim=1, stable=True),
            "shuffled": lambda: self._own(seed).uniform(*xs.shape[:2]).argsort(dim=1),
        }
        order = ranks[self.order]()[..., None]
        return xs.take_along_dim(order, dim=1), ys.take_along_dim(order, dim=1)

    def _own(self, seed: Seed) -> Seed:
        """A seed of this shift's own, so that nested shifts draw independently."""
        return seed / "shift" / repr(self.task)

    def _moved(self, xs: Tensor) -> Tensor:
        if self.transform is not None:
            xs = xs @ torch.tensor(self.transform, dtype=xs.dtype).T
        return self.scale * xs

"""The task interface: a distribution over episodes."""

import abc
from typing import TYPE_CHECKING, Literal, final

from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed

__all__ = ["FunctionTask", "Task"]


class Task(abc.ABC):
    """A distribution over episodes."""

    if TYPE_CHECKING:
        # Declared and not abstract: a task may have it as a field.
        @property
        def dim(self) -> int:
            """The dimension of an input."""

    @property
    def out(self) -> int:
        """The number of outputs."""
        return 1

    @property
    def prompts(self) -> Literal["regression", "sequence"]:
        """The kind of its prompts: labelled inputs, or sequences whose labels are the next entries."""
        return "regression"

    @abc.abstractmethod
    def sample(self, seed: Seed, batch: int, points: int, queries: int = 1) -> Episode:
        """Draw episodes, float64 on the CPU; the same seed gives the same episodes.

        Args:
            seed: The seed of all draws.
            batch: The number of prompts.
            points: The number of examples in each.
            queries: The number of independent queries in each.
        """


class FunctionTask(Task):
    """A task whose examples are inputs and values of a random function, perhaps with noise on the labels."""

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """The dimension of an input."""

    @property
    @abc.abstractmethod
    def out(self) -> int:
        """The number of outputs."""

    @abc.abstractmethod
    def functions(self, seed: Seed, batch: int) -> Float[Tensor, "batch *latent"]:
        """Draw the functions, in the task's own parameters."""

    @abc.abstractmethod
    def inputs(
        self, seed: Seed, functions: Float[Tensor, "batch *latent"], count: int
    ) -> Float[Tensor, "batch count dim"]:
        """Draw the inputs of the examples; their law may be part of what was drawn with the functions."""

    @abc.abstractmethod
    def questions(
        self, seed: Seed, functions: Float[Tensor, "batch *latent"], count: int
    ) -> Float[Tensor, "batch count dim"]:
        """Draw the queries."""

    @abc.abstractmethod
    def values(
        self, functions: Float[Tensor, "batch *latent"], xs: Float[Tensor, "batch count dim"]
    ) -> Float[Tensor, "batch count out"]:
        """The noise-free values of the functions at inputs."""

    @abc.abstractmethod
    def observe(self, seed: Seed, values: Float[Tensor, "batch count out"]) -> Float[Tensor, "batch count out"]:
        """The labels that an example shows: the values, with label noise where the task has any."""

    @abc.abstractmethod
    def arrange(
        self, seed: Seed, xs: Float[Tensor, "batch count dim"], ys: Float[Tensor, "batch count out"]
    ) -> tuple[Float[Tensor, "batch count dim"], Float[Tensor, "batch count out"]]:
        """Put the examples into the order in which the prompt shows them."""

    @final
    def sample(self, seed: Seed, batch: int, points: int, queries: int = 1) -> Episode:
        if min(batch, points, queries) < 1:
            raise InputError(
                f"{type(self).__name__}.sample: batch, points and queries must be at least 1; got "
                f"batch={batch}, points={points}, queries={queries}."
            )
        functions = self.functions(seed / "functions", batch)
        xs = self.inputs(seed / "inputs", functions, points)
        ys = self.observe(seed / "noise", self.values(functions, xs))
        xs, ys = self.arrange(seed / "order", xs, ys)
        query_xs = self.questions(seed / "queries", functions, queries)
        return Episode(Prompt(xs, ys, query_xs), self.values(functions, query_xs), functions)

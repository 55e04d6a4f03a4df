"""Random seeds: a named tree of independent random streams."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from insitu.errors import require_count

__all__ = ["Seed"]


@dataclass(frozen=True)
class Seed:
    """A random stream in a tree of streams, named by a path; its numbers depend on the root and the path alone.

    Numbers are drawn on the CPU in float64 and converted afterwards, so a seed gives the same numbers on every device
    and in every precision. Nothing in the library draws from a global generator.

    Args:
        root: The number a user passes as ``--seed``.
        path: The names below it, appended with ``/``.

    Raises:
        InputError: If ``root`` is not a whole number of at least 0.

    Example:
        >>> seed = Seed(0) / "noise" / 17
        >>> print(seed)
        0/noise/17
        >>> bool((seed.normal(3) == (Seed(0) / "noise" / 17).normal(3)).all())
        True
        >>> bool((seed.normal(3) == (Seed(0) / "noise" / "17").normal(3)).any())
        False
    """

    root: int
    path: tuple[str | int, ...] = ()

    def __post_init__(self) -> None:
        require_count("Seed", "root", self.root)

    @classmethod
    def from_numpy(cls, generator: np.random.Generator) -> "Seed":
        """A seed whose root is the generator's next number; the generator moves on.

        Args:
            generator: NumPy's generator.

        Example:
            >>> first, again = (Seed.from_numpy(np.random.default_rng(7)) for _ in range(2))
            >>> first == again
            True
        """
        return cls(int(generator.integers(2**63)))

    def __truediv__(self, name: str | int) -> "Seed":
        return Seed(self.root, (*self.path, name))

    def __str__(self) -> str:
        return "/".join(map(str, (self.root, *self.path)))

    def generator(self) -> torch.Generator:
        """A fresh generator at the start of this stream."""
        digest = hashlib.blake2b(repr((self.root, self.path)).encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)

    def normal(self, *shape: int) -> Float[Tensor, "..."]:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator(), dtype=torch.float64)

    def uniform(self, *shape: int) -> Float[Tensor, "..."]:
        """Uniform numbers in [0, 1)."""
        return torch.rand(*shape, generator=self.generator(), dtype=torch.float64)

    def integers(self, high: int, *shape: int) -> Int[Tensor, "..."]:
        """Uniform whole numbers in [0, high)."""
        return torch.randint(high, shape, generator=self.generator())

    def permutation(self, count: int) -> Int[Tensor, " count"]:
        """A uniformly random permutation of 0, ..., count - 1."""
        return torch.randperm(count, generator=self.generator())

"""A measured number and how far to trust it."""

import math
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from scipy import special
from torch import Tensor

from insitu.errors import InputError

__all__ = ["CONFIDENCE", "Estimate"]

CONFIDENCE = 0.99


@final
@dataclass(frozen=True)
class Estimate:
    """A value and its standard error; an exact number has error 0.

    Args:
        value: The value; infinite for what diverged.
        error: The standard error.
        samples: The number of independent samples behind the error; none for an exact number.

    Raises:
        InputError: If the value or its error is NaN.

    Example:
        >>> Estimate(2.0, error=0.1, samples=1000)
        Estimate(value=2.0, error=0.1, samples=1000)
        >>> print(Estimate(2.0, error=0.1, samples=1000))
        2 in [1.742, 2.258] (99 %)
    """

    value: float
    error: float = 0.0
    samples: int | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.value) or math.isnan(self.error):
            raise InputError("Estimate: the measured value is not a number (NaN), so nothing can be decided.")

    @classmethod
    def mean(cls, samples: Float[Tensor, " sample"]) -> "Estimate":
        """The mean of independent samples. For a paired comparison pass the differences.

        Raises:
            InputError: If there are fewer than two samples.
        """
        count = len(samples)
        if count < 2:
            raise InputError(f"Estimate.mean: an interval needs at least two samples; got {count}.")
        return cls(samples.mean().item(), samples.std().item() / math.sqrt(count), count)

    @classmethod
    def ratio(cls, above: Float[Tensor, " sample"], below: Float[Tensor, " sample"]) -> "Estimate":
        r"""The ratio of two means over the same samples, with its error by linearisation.

        :math:`r = \bar a / \bar b` has the standard error of the mean of :math:`(a - r b) / \bar b`.
        """
        value = above.mean() / below.mean()
        spread = cls.mean((above - value * below) / below.mean())
        return cls(value.item(), spread.error, len(above))

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value:.4g}" + (
            f" in [{low:.4g}, {high:.4g}] ({CONFIDENCE:.0%})".replace("%", " %") if self.error else ""
        )

    def _repr_html_(self) -> str:
        return f"<span>{self}</span>"

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Student's interval around the value."""
        if not self.error:
            return self.value, self.value
        freedom = math.inf if self.samples is None else self.samples - 1
        half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * self.error
        return self.value - half, self.value + half

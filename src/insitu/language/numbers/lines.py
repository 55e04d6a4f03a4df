"""How examples of whole numbers are written as text, and what a learner makes of the same numbers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError
from insitu.prompt import Prompt

__all__ = ["NumberLines"]

# More numbers than these make a tree of digits that takes longer than the prompt.
MOST = 1000


@final
@dataclass(frozen=True)
class NumberLines:
    r"""Lines such as ``Input: 37 Output: 52``.

    A learner sees the same whole numbers by one affine map, which is the same for inputs and labels:

    .. math:: x = (X - c) / s, \qquad c = (a + b) / 2, \quad s = (b - a) / 4

    where a is the least whole number and b the largest.

    Args:
        low: The least whole number of inputs and labels.
        high: The largest.
        start: What stands before the inputs.
        separator: What stands between the coordinates of an input.
        middle: What stands between inputs and label.
        end: What ends a label; a number is complete only where the model says this behind its digits.

    Raises:
        InputError: If there are fewer than ten whole numbers from low to high or more than a thousand, or a text would
            run into the digits.

    Example:
        >>> print(NumberLines().text([[37], [4]], [52, 11], [20]))
        Input: 37 Output: 52
        Input: 4 Output: 11
        Input: 20 Output:
    """

    low: int = 0
    high: int = 99
    start: str = "Input: "
    separator: str = ", "
    middle: str = " Output: "
    end: str = "\n"

    def __post_init__(self) -> None:
        if self.low < 0 or not 10 <= self.high - self.low + 1 <= MOST:
            raise InputError(
                f"numbers: the range {self.low} to {self.high} holds {self.high - self.low + 1} whole numbers; "
                f"expected 10 to {MOST}, none of them negative, such as --range 0 99."
            )
        for name in ("separator", "middle", "end"):
            text = getattr(self, name)
            if not text or text[0].isdigit() or (name != "end" and text[-1].isdigit()):
                raise InputError(
                    f"numbers: {name} is {text!r}, which runs into the digits beside it; expected a text that neither "
                    "begins nor ends with a digit."
                )

    @property
    def numbers(self) -> range:
        """The whole numbers of the range."""
        return range(self.low, self.high + 1)

    @property
    def centre(self) -> float:
        """The whole number, or the half of one, that a learner sees as zero."""
        return (self.low + self.high) / 2

    @property
    def scale(self) -> float:
        """How many whole numbers a learner sees as one."""
        return (self.high - self.low) / 4

    def question(self, xs: Sequence[int]) -> str:
        """The line up to the label."""
        return f"{self.start}{self.separator.join(map(str, xs))}{self.middle}"

    def text(self, xs: Sequence[Sequence[int]], ys: Sequence[int], query: Sequence[int]) -> str:
        """Examples and a query, up to where its label is to stand."""
        shown = (f"{self.question(x)}{y}{self.end}" for x, y in zip(xs, ys, strict=True))
        return "".join([*shown, self.question(query)])

    def seen(self, whole: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Whole numbers as a learner sees them."""
        return (whole.double() - self.centre) / self.scale

    def written(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The way back, without rounding."""
        return self.scale * values + self.centre

    def prompt(self, whole: Prompt) -> Prompt:
        """A prompt of whole numbers as a learner sees it."""
        return Prompt(self.seen(whole.xs), self.seen(whole.ys), self.seen(whole.queries))

    def as_json(self) -> dict[str, Any]:
        """The format, and the map between the numbers that are written and those that a learner sees."""
        return {**asdict(self), "map": {"centre": self.centre, "scale": self.scale}}

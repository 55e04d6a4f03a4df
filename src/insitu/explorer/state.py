"""What the explorer shows, as one value: its controls, their ranges, and the link that reproduces it."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final
from urllib.parse import urlencode

from insitu.errors import InputError, near_matches, require_one_of

__all__ = ["CONTROLS", "Control", "State"]

TaskName = Literal["uniform", "normal", "sigmoid"]
MaskName = Literal["prefix", "causal"]


@final
@dataclass(frozen=True)
class Control:
    """One thing that is moved.

    Args:
        label: What it is.
        symbol: Its symbol in the formulas; empty for none.
        low: The least value of a number.
        high: The largest.
        step: The distance of two values, in powers of two where ``doubling``.
        doubling: Whether equal moves multiply by equal factors.
        whole: Whether it counts something.
        words: The values of a choice, with what each means; empty for a number.
    """

    label: str
    symbol: str = ""
    low: float = 0.0
    high: float = 0.0
    step: float = 1.0
    doubling: bool = False
    whole: bool = False
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)


TASKS = {"uniform": "linear, uniform x", "normal": "linear, normal x", "sigmoid": "sigmoid, uniform x"}
MASKS = {"prefix": "prefix: all see all", "causal": "causal: only the past"}
CONTROLS: dict[str, Control] = {
    "task": Control("Task", words=TASKS),
    "mask": Control("Mask", words=MASKS),
    "depth": Control("Depth", "L", 1, 40, whole=True),
    "rate": Control("Rate", "η", 0.05, 6.4, 0.125, doubling=True),
    "points": Control("Examples in the prompt", "n", 2, 80, whole=True),
    "dim": Control("Dimension", "d", 2, 32, whole=True),
    "noise": Control("Label noise", "σ", 0, 2, 0.05),
    "condition": Control("Condition of the covariance", "κ", 1, 64, 0.25, doubling=True),
    "shift": Control("Covariate shift", "c", 0.25, 4, 0.125, doubling=True),
    "trained": Control("Context length in training", "N", 2, 160, whole=True),
    "seed": Control("Seed of the prompts", "", 0, 99, whole=True),
}
"""Every control by the name of its field, in the order of the page."""


@final
@dataclass(frozen=True)
class State:
    r"""A setting of all controls.

    Args:
        task: The law of the inputs of a linear function, *uniform* on the cube or *normal*; *sigmoid* is a sigmoid
            of a linear function of uniform inputs.
        mask: The mask of the network, *prefix* or *causal*.
        depth: Its layers.
        rate: Its rate :math:`\eta`.
        points: Examples in a prompt, n.
        dim: The dimension of an input, d.
        noise: The standard deviation :math:`\sigma` of the label noise.
        condition: The condition number :math:`\kappa` of the covariance of the inputs, whose eigenvalues fall
            geometrically and have the mean of the isotropic law.
        shift: The factor c by which test inputs and queries are larger than those of training.
        trained: The context length N on which the one trained layer was trained.
        seed: The seed of the prompts.

    Raises:
        InputError: If a value lies outside its range.

    Example:
        >>> State(mask="causal", depth=12).query
        'depth=12'
        >>> State.from_query({"depth": "12", "rate": "0.5"})
        State(depth=12, rate=0.5)
    """

    task: TaskName = "uniform"
    mask: MaskName = "causal"
    depth: int = 16
    rate: float = 1.6
    points: int = 40
    dim: int = 16
    noise: float = 0.0
    condition: float = 1.0
    shift: float = 1.0
    trained: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        for name, control in CONTROLS.items():
            value = getattr(self, name)
            if control.words:
                require_one_of("explore", name, value, tuple(control.words))
            else:
                object.__setattr__(self, name, within(name, value, control))

    def __repr__(self) -> str:
        return f"State({', '.join(f'{name}={value!r}' for name, value in self.changes.items())})"

    def without(self, *names: str) -> "State":
        """The state with some controls where they stand at first: the same for all that differ in these alone."""
        return dataclasses.replace(self, **{name: getattr(type(self), name) for name in names})

    @property
    def changes(self) -> dict[str, Any]:
        """The controls that are not where they stand at first."""
        values = {f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    @property
    def query(self) -> str:
        """The part of a link that reproduces the state."""
        return urlencode({name: f"{v:g}" if isinstance(v, float) else v for name, v in self.changes.items()})

    @classmethod
    def from_query(cls, words: Mapping[str, str]) -> "State":
        """The state of a link.

        Raises:
            InputError: If a name is not that of a control, or a value cannot be read or lies outside its range.
        """
        return cls().moved(words)

    def moved(self, words: Mapping[str, str]) -> "State":
        """The state with some controls moved, from text.

        Raises:
            InputError: As for :meth:`from_query`.
        """
        unknown = sorted(words.keys() - CONTROLS.keys())
        if unknown:
            raise InputError(f"explore: there is no control {unknown[0]!r}; {near_matches(unknown[0], CONTROLS)}")
        values: dict[str, Any] = {name: parsed(name, text) for name, text in words.items()}
        return dataclasses.replace(self, **values)


def parsed(name: str, text: str) -> str | float:
    """The value that a text stands for.

    Raises:
        InputError: If a number is expected and the text is none.
    """
    if CONTROLS[name].words:
        return text
    try:
        value = float(text)
        return int(value) if CONTROLS[name].whole and value.is_integer() else value
    except ValueError:
        raise InputError(f"explore: {name} must be a number; got {text!r}.") from None


def within(name: str, value: Any, control: Control) -> int | float:
    """A number in the range of its control; a whole one where it counts something.

    Raises:
        InputError: If it is no number, lies outside, or is not whole where it counts something.
    """
    number = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if not number or not control.low <= value <= control.high or (control.whole and value != int(value)):
        kind = "a whole number" if control.whole else "a number"
        raise InputError(f"explore: {name} must be {kind} from {control.low:g} to {control.high:g}; got {value!r}.")
    return int(value) if control.whole else float(value)

"""Options that commands share, as dataclasses, and the one way to give an option several values."""

import contextlib
import dataclasses
import functools
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final, get_type_hints

import typer
from typer.core import TyperCommand

from insitu.budget import Budget, elapsed, limited, parse_duration
from insitu.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Command",
    "DeviceChoice",
    "DeviceOption",
    "HiddenSeed",
    "JsonOption",
    "KeptOptions",
    "PlanOption",
    "Quiet",
    "Sitting",
    "Where",
    "folder_or",
    "grouped",
]


class Command(TyperCommand):
    """A command whose options for lists take several words: ``--shots 1 2 4``, also ``--shots 1 --shots 2``.

    A list ends at the next option. Arguments of the command come before such an option.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {name for p in self.params if getattr(p, "multiple", False) for name in p.opts}
        return super().parse_args(ctx, spread(args, lists))


def spread(args: list[str], lists: set[str]) -> list[str]:
    """The words of a command line with the option repeated before every further value of a list.

    Example:
        >>> spread(["--shots", "1", "2", "-h"], {"--shots"})
        ['--shots', '1', '--shots', '2', '-h']
    """
    words: list[str] = []
    option, values = "", 0
    for word in args:
        if is_option(word):
            option, values = (word if word in lists else ""), 0
        elif option:
            words += [option] if values else []
            values += 1
        words.append(word)
    return words


def is_option(word: str) -> bool:
    """Whether a word names an option; a negative number does not."""
    return word.startswith("-") and not word[1:2].isdigit()


class DeviceChoice(StrEnum):
    """The devices, as the command line spells them."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Skip finished work of the same configuration.")]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        help="Stop within this time, such as 90s, 9m or 2h, with all states stored; the same command resumes.",
        show_default="no limit",
    ),
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Print what would run and how long, and run nothing.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The seed of all random streams.")]
DeviceOption = Annotated[DeviceChoice, typer.Option("--device", help="Device; auto uses a GPU if there is one.")]
# Every command takes --seed and --device; those that neither draw nor compute do not offer them.
HiddenSeed = Annotated[int, typer.Option("--seed", min=0, hidden=True)]
HiddenDevice = Annotated[DeviceChoice, typer.Option("--device", hidden=True)]


@dataclasses.dataclass(frozen=True)
class Where:
    """Seed and device of a run."""

    seed: SeedOption = 0
    device: DeviceOption = DeviceChoice.auto
    as_json: JsonOption = False

    @property
    def place(self) -> "torch.device":
        """The device."""
        from insitu.device import pick_device

        return pick_device(self.device.value)


@dataclasses.dataclass(frozen=True)
class Quiet:
    """The options of commands that neither draw nor compute."""

    seed: HiddenSeed = 0
    device: HiddenDevice = DeviceChoice.auto
    as_json: JsonOption = False


@dataclasses.dataclass(frozen=True)
class Sitting(ABC):
    """The options of a command that may take long: it ends within a budget, and the same command continues."""

    resume: ResumeOption = False
    budget: BudgetOption = None

    @property
    @abstractmethod
    def reserve(self) -> float:
        """The seconds of a budget, or half of a short one, that are kept for what comes after the work."""

    @property
    @abstractmethod
    def grace(self) -> float:
        """The seconds after which work that has not ended by itself is cut short."""

    @property
    def resumes(self) -> bool:
        """Whether earlier results count: a budget goes on where the last one ended."""
        return self.resume or self.budget is not None

    @classmethod
    def keeps(cls, words: Sequence[str]) -> bool:
        """Whether the command of these words keeps finished work when it is interrupted."""
        return True

    def limit(self) -> contextlib.AbstractContextManager[Budget]:
        """The context in which the command runs."""
        return limited(seconds_of(self.budget, self.reserve), self.grace)


@final
@dataclasses.dataclass(frozen=True)
class KeptOptions(Sitting):
    """The folder of a page, in which a command that can do without one keeps its results."""

    # A result is written when it is finished; nothing else has to be stored.
    reserve = 0.0
    grace = 0.0

    out: Annotated[Path | None, typer.Option(help="Folder for a report page, its figures and records.")] = None

    @classmethod
    def keeps(cls, words: Sequence[str]) -> bool:
        return any(word.partition("=")[0] == "--out" for word in words)

    def require_out(self) -> None:
        """Refuse to continue from nowhere.

        Raises:
            InputError: If there is a budget, or something is to be resumed, and no folder.
        """
        if self.resumes and self.out is None:
            raise InputError("--budget and --resume need a folder to keep results in; give one with --out.")


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters that are dataclasses become one option for each of their fields.

    The default of such a parameter, a value of the dataclass, gives the options their defaults; without one the
    dataclass itself does. A :class:`Sitting` among them limits the time of the command; the attribute ``keeps`` says
    of the words of a command line whether their work is kept when it is interrupted.
    """
    signature = inspect.signature(command, eval_str=True)
    groups = {name: p for name, p in signature.parameters.items() if dataclasses.is_dataclass(p.annotation)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += options_of(parameter) if name in groups else [parameter.replace(kind=parameter.KEYWORD_ONLY)]

    @functools.wraps(command)
    def flat(**values: Any) -> None:
        for name, parameter in groups.items():
            kind: Any = parameter.annotation
            values[name] = kind(**{f.name: values.pop(f.name) for f in dataclasses.fields(kind)})
        with contextlib.ExitStack() as stack:
            for sitting in (value for value in values.values() if isinstance(value, Sitting)):
                stack.enter_context(sitting.limit())
            command(**values)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters}
    kinds = [p.annotation for p in groups.values() if issubclass(p.annotation, Sitting)]
    flat.keeps = kinds[0].keeps if kinds else lambda words: False  # type: ignore[attr-defined]
    return flat


def options_of(group: inspect.Parameter) -> list[inspect.Parameter]:
    """A parameter for every field of a dataclass."""
    kind: Any = group.annotation
    defaults = kind() if group.default is group.empty else group.default
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(f.name, group.KEYWORD_ONLY, default=getattr(defaults, f.name), annotation=hints[f.name])
        for f in dataclasses.fields(kind)
    ]


def seconds_of(budget: str | None, reserve: float) -> float:
    """The seconds of work that are left in a budget of the whole command; infinite where there is none.

    ``reserve`` seconds, or half of a short budget, are kept for what comes after the work.

    Example:
        >>> seconds_of(None, reserve=5.0)
        inf
    """
    seconds = math.inf if budget is None else parse_duration(budget)
    return max(seconds - reserve, seconds / 2) - elapsed()


def folder_or(out: Path | None, default: Path) -> Path:
    """The folder of ``--out``, or the default one, ready to be written into."""
    from insitu.storage import require_folder

    folder = out or default
    require_folder(folder)
    return folder

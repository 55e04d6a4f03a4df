"""The past of a network: what it was trained on, and what it was at steps spaced by factors of two."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from insitu.errors import InputError
from insitu.kinds import kinds_below
from insitu.models import load_network, save_network
from insitu.models.network import Network
from insitu.records import content_digest
from insitu.seed import Seed
from insitu.storage import write_atomically
from insitu.tasks import Law, Task
from insitu.training.config import build

__all__ = ["Past", "is_kept", "keep_step", "load_past", "load_steps", "save_past"]

PAST = "training.json"
STEPS = "steps"


@final
@dataclass(frozen=True)
class Past:
    """What a network was trained on.

    Args:
        task: The task from which its prompts were drawn.
        points: The context length of these prompts.
    """

    task: Task
    points: int


def is_kept(done: int) -> bool:
    """Whether a network is stored after so many updates: 1, 2, 4, 8, ...

    Example:
        >>> [done for done in range(1, 20) if is_kept(done)]
        [1, 2, 4, 8, 16]
    """
    return done & (done - 1) == 0


def keep_step(network: Network, folder: Path, done: int) -> None:
    """Store a network as it is after so many updates, below the folder in which it will be at the end.

    Raises:
        StorageError: If a file cannot be written.
    """
    save_network(network, folder / STEPS / str(done))


def save_past(past: Past, folder: Path) -> None:
    """Write what a network was trained on beside it.

    Raises:
        StorageError: If the file cannot be written.
    """
    content: dict[str, Any] = {"task": table(past.task), "points": past.points}
    content["digest"] = content_digest(content)
    write_atomically(folder / PAST, (json.dumps(content, indent=2) + "\n").encode())


def load_past(folder: Path) -> Past | None:
    """What a network in a folder was trained on; none where that is not stored.

    Raises:
        InputError: If the file is damaged.
    """
    path = folder / PAST
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.keys() - {"digest"} != {"task", "points"}:
            raise ValueError(f"its keys are {sorted(content)}")
        # Earlier versions wrote none.
        if content.get("digest") not in (None, content_digest(content)):
            raise ValueError("it does not match its own digest")
        return Past(build("task", content["task"], kinds_below(Task)), int(content["points"]))
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} does not say what the network was trained on ({type(error).__name__}: {error}). Remove the file, "
            "and diagnostic prompts take the place of the task."
        ) from None


def load_steps(folder: Path) -> list[tuple[int, Network]]:
    """The networks that a training kept, the earliest first.

    Args:
        folder: That of a network, or of a training with one network.

    Raises:
        InputError: If there is none, or several networks were trained there.
    """
    owners = sorted(path.parent for path in folder.glob(f"**/{STEPS}/1"))
    if len(owners) != 1:
        names = ", ".join(str(path.parent.relative_to(folder)) for path in owners[:8])
        many = f"it holds those of {len(owners)} networks; name one of them: {names}"
        raise InputError(
            f"{folder} is no training to be identified: {many if owners else 'it holds no steps of a network'}. "
            "Expected a folder that insitu train wrote, or that of one of its networks."
        )
    kept = sorted((int(path.name), path) for path in owners[0].iterdir() if path.name.isdecimal())
    return [(done, load_network(path)) for done, path in kept]


def table(value: Any) -> Any:
    """A task or a law as the table of a training file that describes it."""
    if isinstance(value, Seed):
        return value.root
    if not isinstance(value, Task | Law):
        return value
    fields = {f.name: table(getattr(value, f.name)) for f in dataclasses.fields(value)}  # type: ignore[arg-type]
    return {"kind": type(value).__name__, **{name: part for name, part in fields.items() if part is not None}}

"""The metrics of a training as event files of TensorBoard, beside ``metrics.jsonl``."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from insitu.training.config import Training
from insitu.training.loop import Step
from insitu.training.session import metric_rows

__all__ = ["EVENTS", "event_files"]

EVENTS = "tensorboard"


@contextlib.contextmanager
def event_files(training: Training, folder: Path) -> Iterator[Callable[[Step], None]]:
    """Inside, a function that adds the metrics of a step; a run of TensorBoard for each network, below ``tensorboard``.

    Args:
        training: What is trained.
        folder: The folder of the training.
    """
    from torch.utils.tensorboard import SummaryWriter

    with contextlib.ExitStack() as stack:
        writers: dict[str, SummaryWriter] = {}

        def add(step: Step) -> None:
            for row in metric_rows(training, step):
                name = row["network"]
                if name not in writers:
                    # What an interrupted training wrote behind its last stored state is written again.
                    writer = SummaryWriter(str(folder / EVENTS / name), purge_step=step.index)
                    writers[name] = stack.enter_context(writer)
                for metric in ("loss", "rate"):
                    writers[name].add_scalar(metric, row[metric], step.index)

        yield add

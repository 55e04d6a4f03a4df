"""What most people come for: identify a model, compare two, run a paper's claims again, load what is stored."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final, overload

from insitu.errors import InputError, require_package
from insitu.seed import Seed

if TYPE_CHECKING:
    from pandas import DataFrame

    from insitu.claims.claim import Scale
    from insitu.claims.record import Record
    from insitu.identification import Identification
    from insitu.language import LanguageModel
    from insitu.language.numbers import NumberIdentification
    from insitu.metrics import Estimate
    from insitu.predictor import Predictor
    from insitu.tasks import FunctionTask

__all__ = ["Records", "compare", "identify", "load", "reproduce"]


def load(name: str | Path) -> "Predictor | LanguageModel":
    """What a name stands for: a stored network, a learner, or a language model.

    Args:
        name: A folder that ``insitu train`` or :func:`insitu.models.save_network` wrote, a learner as it prints, such
            as ``"Ridge(penalty=0.25)"``, or a language model: a bundled name, a folder, or a hub name.

    Raises:
        InputError: If it names none of these.

    Example:
        >>> load("Ridge(penalty=0.25)")
        Ridge(penalty=0.25)
    """
    from insitu.models import load_network, named_predictor

    if "(" in str(name):
        return named_predictor(str(name))
    if is_network(Path(name)):
        return load_network(name)
    from insitu.language import load_language_model

    return load_language_model(name)


def is_network(folder: Path) -> bool:
    """Whether a folder holds a network of this package: its configuration says of which kind."""
    try:
        return "kind" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def identify(
    model: "Predictor | LanguageModel | Callable[..., Any] | str",
    *,
    dim: int | None = None,
    points: Sequence[int] = (),
    count: int | None = None,
    seed: int = 0,
    candidates: Sequence["Predictor"] = (),
) -> "Identification | NumberIdentification":
    """Which learning algorithm a model runs in its context: its answers to diagnostic prompts against fitted learners.

    Args:
        model: A predictor, a network of this package, a language model (which gets regression written as text, see
            :class:`insitu.language.numbers.NumberPlan`), any function ``(xs, ys, queries) -> answers`` in PyTorch or
            NumPy (answers ``(batch, query)`` or ``(batch, query, out)``), or a name that :func:`load` understands.
        dim: The dimension of an input; a network knows its own, a function does not. Of numbers 1.
        points: Context lengths of the diagnostic prompts; the usual ones where none is given.
        count: Prompts of each diagnostic at each length, 100 if not given; of numbers 16.
        seed: The seed of the diagnostic prompts.
        candidates: Further learners to compare with, as they are.

    Raises:
        InputError: If the dimension of a function is missing, or its answers have another shape.

    Example:
        >>> identify(load("GradientDescent(steps=3, rate=0.4)"), dim=3, count=16).best.learner
        GradientDescent(steps=3, rate=0.4)
    """
    from insitu.identification.black_box import identify_model
    from insitu.identification.diagnostics import Plan
    from insitu.language import LanguageModel
    from insitu.models import Network
    from insitu.predictor import as_predictor

    loaded = load(model) if isinstance(model, str | Path) else model
    if isinstance(loaded, LanguageModel):
        return identify_by_numbers(loaded, dim or 1, tuple(points), count, Seed(seed))
    predictor = as_predictor(loaded)
    if dim is None and not isinstance(predictor, Network):
        raise InputError("identify: dim is missing; a function does not say how many coordinates its inputs have.")
    return identify_model(predictor, Plan(dim or 1, tuple(points), count or 100), Seed(seed), candidates=candidates)


def identify_by_numbers(
    model: "LanguageModel", dim: int, points: tuple[int, ...], count: int | None, seed: Seed
) -> "NumberIdentification":
    """Which learner a language model is on regression written as text."""
    from insitu.language.numbers import NumberPlan, identify_language_model

    plan = NumberPlan(dim, points or NumberPlan.points, count or NumberPlan.count)
    return identify_language_model(model, plan, seed)


def compare(
    a: "Predictor | Callable[..., Any]",
    b: "Predictor | Callable[..., Any]",
    task: "FunctionTask",
    *,
    points: int = 20,
    queries: int = 1,
    batch: int = 1024,
    seed: int = 0,
) -> "Estimate":
    r"""The error of ``a`` minus that of ``b`` on the same prompts of a task, with its interval.

    .. math:: E\,\|a(x_q) - f(x_q)\|^2 - E\,\|b(x_q) - f(x_q)\|^2,

    where f is the noise-free function. Prompts are independent samples; queries of one prompt are averaged.

    Args:
        a: A predictor or a function (see :func:`identify`).
        b: What it is compared with.
        task: What the prompts are drawn from.
        points: Examples in a prompt.
        queries: Queries in a prompt.
        batch: Prompts.
        seed: The seed of the prompts.

    Example:
        >>> from insitu.tasks import Gaussian, LinearRegression
        >>> difference = compare(load("LeastSquares()"), load("Mean()"), LinearRegression(Gaussian(3)))
        >>> difference.interval()[1] < 0  # least squares has the smaller error
        True
    """
    import torch

    from insitu.metrics import Estimate, squared_error
    from insitu.predictor import as_predictor

    episode = task.sample(Seed(seed) / "compare", batch, points, queries)
    with torch.no_grad():
        errors = [squared_error(as_predictor(model).predict(episode.prompt), episode) for model in (a, b)]
    return Estimate.mean(errors[0] - errors[1])


def reproduce(
    *ids: str,
    scale: "Scale" = "quick",
    seed: int = 0,
    seeds: Sequence[int] = (),
    out: Path | str | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> "Records":
    """Run claims, as ``insitu reproduce`` does; what the same configuration has finished is not run again.

    Claims that cannot run on this machine, because a model is missing, are left out.

    Args:
        ids: Papers or claims, such as ``"ding2024"``; all where none is given.
        scale: *quick* or *full*.
        seed: The seed of all random streams.
        seeds: Several seeds, in place of one.
        out: Where records go, and the report; ``results/SCALE`` where none is given.
        workers: Claims that run at the same time; one per core where none is given.
        device: *cpu*, *cuda* or *auto*.

    Raises:
        InputError: If an id names neither a paper nor a claim, or nothing can run.
    """
    from insitu.device import available_cores, pick_device
    from insitu.storage import require_folder
    from insitu.sweeps import claim_jobs
    from insitu.work import Finished, run_jobs

    folder = Path(out or Path("results") / scale)
    jobs = claim_jobs(ids, scale, seeds or (seed,), folder=folder, device=pick_device(device).type)
    require_folder(folder)
    events = run_jobs(jobs, workers=workers or available_cores(), resume=True)
    records = {event.job.key: event.record for event in events if isinstance(event, Finished)}
    return Records(tuple(records[job.key] for job in jobs), folder)


@final
@dataclass(frozen=True, repr=False)
class Records(Sequence["Record"]):
    """Records of claims, in the order of their papers; shows itself as a table of verdicts.

    Args:
        records: The records.
        folder: Where they lie.
    """

    records: tuple["Record", ...]
    folder: Path

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> "Record": ...
    @overload
    def __getitem__(self, index: slice) -> "tuple[Record, ...]": ...
    def __getitem__(self, index: int | slice) -> "Record | tuple[Record, ...]":
        return self.records[index]

    def __repr__(self) -> str:
        verdicts = Counter(record.verdict for record in self.records)
        counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        return f"Records({counts}; {str(self.folder)!r})"

    def __str__(self) -> str:
        return "\n".join(f"{record.verdict:>9}  {record.claim}" for record in self.records)

    def _repr_html_(self) -> str:
        from insitu.report import verdict_table

        return str(verdict_table(self.records))

    def table(self) -> "DataFrame":
        """A row for every quantity that a rule decides, as pandas holds it; see :mod:`insitu.claims.table`.

        ``records.table().to_parquet("claims.parquet")`` stores it.

        Raises:
            InputError: If pandas is not installed.
        """
        from insitu.claims.table import COLUMNS, rows

        rest = ", or take the rows as dictionaries from insitu.claims.table.rows(records)"
        require_package("Records.table", "pandas", "pandas", rest)
        import pandas as pd

        return pd.DataFrame(rows(self.records), columns=COLUMNS)

    def save_page(self) -> Path:
        """Write the report of the folder in which the records lie, with its figures; the page."""
        from insitu.report import build_report

        return build_report(self.folder).page

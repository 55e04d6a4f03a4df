"""Jobs that run claims: each measures one, judges it, and writes its record."""

import dataclasses
import functools
import time
import traceback
import warnings
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from insitu.budget import OutOfTimeError
from insitu.claims.claim import Claim, Measurement, Paper, Run, Scale, Study
from insitu.claims.record import (
    Record,
    claim_name,
    claim_record,
    make_record,
    run_key,
    work_key,
    write_record,
)
from insitu.errors import InputError
from insitu.records import Damage, find_record, plain, record_path
from insitu.seed import Seed
from insitu.storage import StorageError
from insitu.work.job import UNFINISHED, Job

__all__ = ["ClaimJob"]


@final
@dataclass(frozen=True)
class Preparation:
    """A study, and the run to pass to it."""

    study: Study
    run: Run


@final
@dataclass(frozen=True)
class ClaimJob(Job):
    """One claim to run: where, how, and into which folder its record goes."""

    claim: Claim
    paper: Paper
    scale: Scale
    seed: int
    device: str
    folder: Path

    @property
    def name(self) -> str:
        return self.claim.id

    @functools.cached_property
    def key(self) -> str:
        return run_key(self.claim, self.scale, self.prepared_run)

    @property
    def stated_seconds(self) -> float:
        return self.claim.quick_seconds if self.scale == "quick" else 3600 * self.claim.full_hours

    @property
    def bytes_needed(self) -> int | None:
        known = self.claim.quick_gigabytes if self.scale == "quick" else 0.0
        return int(1e9 * known) or None

    @property
    def together(self) -> Hashable:
        return self.preparation or self.key

    @property
    def modules(self) -> Iterable[str]:
        return (self.claim.measure.__module__,)

    @property
    def prepared_run(self) -> Run:
        """The run that is passed to the claim's measurement, before its study is done."""
        # Each claim draws below its own name, so no claim's numbers depend on which others run.
        return self.below(self.claim.id)

    @property
    def preparation(self) -> Preparation | None:
        """The claim's study in this job's setting; jobs with the same one share what it makes."""
        study = self.claim.study
        if study is None:
            return None
        return Preparation(study, self.below(study.name))

    def below(self, name: str) -> Run:
        """A run with its random streams below a name, and a folder for states that survive an interruption."""
        run = Run(self.claim.setting(self.scale), Seed(self.seed, (name,)), torch.device(self.device))
        return dataclasses.replace(run, folder=self.folder / UNFINISHED / f"{name}-{work_key(run)[:12]}")

    def states(self) -> Iterable[Path]:
        runs = (self.prepared_run, *([self.preparation.run] if self.preparation else []))
        return [run.folder for run in runs if run.folder is not None]

    def resembles(self, record: Mapping[str, Any]) -> bool:
        setting = plain(self.claim.setting(self.scale))
        return (record.get("claim"), record.get("scale"), record.get("setting")) == (self.claim.id, self.scale, setting)

    def run(self) -> Record:
        started = time.perf_counter()
        measurement, error = None, ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                study = prepared(self.preparation)
                measurement = self.claim.measure(dataclasses.replace(self.prepared_run, study=study))
            self.claim.judge(measurement)
        except (StorageError, OutOfTimeError):
            raise
        except Exception:
            measurement, error = None, traceback.format_exc()
        return self.recorded(measurement, error, time.perf_counter() - started)

    def failed(self, reason: str) -> Record:
        return self.recorded(None, reason, 0.0)

    def recorded(self, measurement: Measurement | None, error: str, seconds: float) -> Record:
        """Write the record of a measurement, or of an error."""
        record = make_record(
            self.claim,
            self.paper,
            self.scale,
            self.prepared_run,
            measurement=measurement,
            error=error,
            seconds=seconds,
        )
        write_record(record, self.folder)
        return record

    def stored(self) -> Record | Damage | None:
        name = claim_name(self.claim.id, self.scale)
        stored = find_record(self.folder, name, self.key)
        if stored is None or isinstance(stored, Damage):
            return stored
        try:
            return claim_record(stored)
        except InputError as error:
            return Damage(record_path(self.folder, name, self.key), str(error))


@functools.lru_cache(maxsize=1)
def prepared(preparation: Preparation | None) -> Any:
    """The result of a study, cached for the next claim of the same worker."""
    return preparation and preparation.study(preparation.run)

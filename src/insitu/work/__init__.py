"""Lists of work: jobs with keys of content, who does them and when, and what of a list is done."""

from insitu.work.events import Engine, Finished, Started
from insitu.work.job import Job, Outcome, run_job
from insitu.work.planning import Planned, plan, predicted_seconds, queued, shard
from insitu.work.running import run_jobs

__all__ = [
    "Engine",
    "Finished",
    "Job",
    "Outcome",
    "Planned",
    "Started",
    "plan",
    "predicted_seconds",
    "queued",
    "run_job",
    "run_jobs",
    "shard",
]

"""Faults, each tried on real processes: kills at random moments, full disks, damaged files.

    python -m benchmarks.faults kills --count 100
    python -m benchmarks.faults disks        (as root: it mounts small file systems)
    python -m benchmarks.faults damage --count 200

Every command runs on tiny settings. After a fault the same command runs again with ``--resume``; its results must be
those of an undisturbed run, bit for bit, without a traceback, a process that lives on, or a file that is left over.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

TRAINING = """
[task]
kind = "LinearRegression"
law = { kind = "Gaussian", dim = 3 }

[network]
kind = "Transformer"
layers = 1
width = 8
heads = 1

[training]
steps = 400
rate = 0.01
batch = 8
points = 5
"""
SWEEP = f"together = 1\n{TRAINING}\n[grid]\nseed = [0, 1]\n".replace("steps = 400", "steps = 150")
PROSE = "\n<|endoftext|>\n".join(
    f"Chapter {i}. It was a day like day {i % 7}, and nobody came home." for i in range(60)
)
CLAIMS = ("zhang2024.loss-falls-at-the-rate-of-the-bound", "sander2024.rotations-obey-a-three-term-recurrence")
MODEL = ("--model", "stories260K", "--device", "cpu", "--items", "4", "--rates", "0.05", "--epochs", "1", "2")
SIZES = "--vocabulary 300 --width 16 --layers 1 --heads 2 --inner 24 --window 32 --batch 2 --steps 60 --device cpu"
COMMANDS: dict[str, tuple[str, ...]] = {
    "reproduce": ("reproduce", *CLAIMS, "--workers", "2"),
    "train": ("train", "INPUT/own.toml"),
    "sweep": ("sweep", "INPUT/plan.toml", "--workers", "2"),
    "lm compare": ("lm", "compare", *MODEL, "--shots", "2", "--sets", "2", "--development", "4"),
    "lm order": ("lm", "order", *MODEL, "--shots", "2", "--sets", "2", "--orders", "2"),
    "lm pretrain": ("lm", "pretrain", "INPUT/text.txt", *SIZES.split()),
}
# What two runs of the same work may differ in.
VOLATILE = {"finished", "seconds", "commit", "digest", "training seconds", "reading seconds"}
DRAWN = {".html", ".svg", ".pdf", ".md"}
PATIENCE = 600.0


@dataclass
class Findings:
    """What was tried, and what was wrong."""

    tried: int = 0
    wrong: list[str] = field(default_factory=list)

    def check(self, fine: bool, what: str) -> None:
        """Note a fault."""
        if not fine:
            self.wrong.append(what)
            print(f"WRONG  {what}", flush=True)


@dataclass(frozen=True)
class Place:
    """A folder for one command: its inputs, its results, and a folder of its own for temporary files."""

    root: Path

    def command(self, name: str, out: Path) -> list[str]:
        """The words of a command."""
        words = [word.replace("INPUT", str(self.root / "input")) for word in COMMANDS[name]]
        return [sys.executable, "-m", "insitu", *words, "--out", str(out)]

    def start(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start a process in a session of its own; what it prints goes into a file."""
        temporary = self.root / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
        with (self.root / "log").open("wb") as log:
            return subprocess.Popen(
                words, stdout=log, stderr=log, cwd=self.root, env=environment, start_new_session=True
            )

    @property
    def log(self) -> str:
        """What the last process printed."""
        return (self.root / "log").read_text(errors="replace")


def prepared(root: Path) -> Place:
    """A place with the inputs of all commands."""
    (root / "input").mkdir(parents=True)
    for name, text in (("own.toml", TRAINING), ("plan.toml", SWEEP), ("text.txt", PROSE)):
        (root / "input" / name).write_text(text)
    return Place(root)


def contents(folder: Path) -> dict[str, Any]:
    """What a folder of results holds, without what two runs may differ in."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in DRAWN)
    return {str(path.relative_to(folder)): content_of(path) for path in files}


def content_of(path: Path) -> Any:
    """The content of a file; of JSON without the fields that may differ; of a training's state its numbers."""
    if path.suffix == ".json":
        return settled(json.loads(path.read_text()))
    if path.name in ("training_args.bin", "sweep.csv", "seeds.csv"):
        return None
    return path.read_bytes()


def settled(value: Any) -> Any:
    """JSON without the fields that may differ."""
    if isinstance(value, dict):
        return {key: settled(part) for key, part in value.items() if key not in VOLATILE}
    return [settled(part) for part in value] if isinstance(value, list) else value


def alive(session: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def gone_within(session: int, seconds: float) -> bool:
    """Whether all processes of a session end by themselves."""
    end = time.monotonic() + seconds
    while alive(session) and time.monotonic() < end:
        time.sleep(0.1)
    for pid in (left := alive(session)):
        os.kill(pid, signal.SIGKILL)
    return not left


def leftovers(place: Path) -> list[str]:
    """Files that are no results: hidden ones, temporary ones, states of unfinished work."""
    hidden = [path for path in place.rglob("*") if path.name.startswith((".", "tmp")) or path.name == "unfinished"]
    return [str(path) for path in hidden]


def finish(place: Place, words: Sequence[str]) -> int:
    """Run a command to its end; its exit code."""
    process = place.start(words)
    try:
        return process.wait(PATIENCE)
    finally:
        gone_within(process.pid, 10.0)


@dataclass
class Case:
    """A command with its undisturbed results."""

    name: str
    place: Place
    expected: dict[str, Any]
    seconds: float


def case(name: str, root: Path) -> Case:
    """Run a command undisturbed."""
    place = prepared(root)
    began = time.monotonic()
    code = finish(place, place.command(name, root / "whole"))
    if code:
        sys.exit(f"{name} ended with {code}: {place.log}")
    return Case(name, place, contents(root / "whole"), time.monotonic() - began)


def kill(given: Case, draw: random.Random, findings: Findings) -> None:
    """Kill a command at a random moment, run it again, and compare."""
    out = given.place.root / "killed"
    shutil.rmtree(out, ignore_errors=True)
    words = [*given.place.command(given.name, out), "--resume"]
    moment = draw.uniform(0.0, given.seconds)
    process = given.place.start(words)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    process.kill()
    process.wait()
    what = f"{given.name}, killed after {moment:.2f} of {given.seconds:.2f} s"
    findings.check(gone_within(process.pid, 10.0), f"{what}: a process lives on")
    findings.check("Traceback" not in given.place.log, f"{what}: {given.place.log[-300:]}")
    code = finish(given.place, words)
    compare(given, out, f"{what}, then resumed ({code})", findings)
    findings.tried += 1


def compare(given: Case, out: Path, what: str, findings: Findings) -> None:
    """Compare the results of a disturbed run with those of an undisturbed one."""
    log = given.place.log
    findings.check("Traceback" not in log, f"{what}: {log[-600:]}")
    found = contents(out)
    differ = [
        name for name in sorted(found.keys() | given.expected.keys()) if found.get(name) != given.expected.get(name)
    ]
    findings.check(not differ, f"{what}: {', '.join(differ[:6])} differ{'' if found else ' ' + log[-300:]}")
    findings.check(not leftovers(out), f"{what}: left over: {leftovers(out)}")
    temporary = [path.name for path in (given.place.root / "tmp").iterdir()]
    findings.check(not temporary, f"{what}: left over among temporary files: {temporary}")
    for name in temporary:
        shutil.rmtree(given.place.root / "tmp" / name, ignore_errors=True)


def kills(root: Path, options: argparse.Namespace, findings: Findings) -> None:
    """So many kills, taking turns among the commands."""
    draw = random.Random(options.seed)
    cases = [case(name, root / name.replace(" ", "-")) for name in options.commands or COMMANDS]
    for number in range(options.count):
        given = cases[number % len(cases)]
        kill(given, draw, findings)
        print(f"{number + 1:>4}/{options.count}  {given.name}  {len(findings.wrong)} wrong", flush=True)


FAULTS: dict[str, Callable[[Path, argparse.Namespace, Findings], None]] = {"kills": kills}


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """A folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="insitu-faults-") as name:
        yield Path(name)


def main() -> None:
    """Try faults of one kind; the exit code is 1 if something was wrong."""
    parser = argparse.ArgumentParser(description="Tries faults on real processes.")
    parser.add_argument("fault", choices=FAULTS)
    parser.add_argument("--count", type=int, default=12, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and places")
    parser.add_argument("--commands", nargs="*", choices=COMMANDS, help="all if none is named")
    options = parser.parse_args()
    findings = Findings()
    with working_folder() as root:
        FAULTS[options.fault](root, options, findings)
    print(f"{findings.tried} tried, {len(findings.wrong)} wrong")
    sys.exit(bool(findings.wrong))


if __name__ == "__main__":
    main()

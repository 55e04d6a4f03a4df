"""Faults, each tried on real processes: kills at random moments, full disks, damaged files.

    python -m benchmarks.faults kills --count 100
    python -m benchmarks.faults disks        (as root: it mounts small file systems)
    python -m benchmarks.faults surroundings
    python -m benchmarks.faults shards       (four at once, one of them killed)
    python -m benchmarks.faults sittings     (no fault: budgets that are shorter than the work)
    python -m benchmarks.damage --count 200

Every command runs on tiny settings. After a fault the same command runs again with ``--resume``; its results must be
those of an undisturbed run, bit for bit, without a traceback, a process that lives on, or a file that is left over.
"""

import argparse
import contextlib
import json
import math
import os
import random
import shlex
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
SWEEP = f"together = 1\n{TRAINING}\n[grid]\nseed = [0, 1, 2, 3]\n".replace("steps = 400", "steps = 150")
CHAPTERS = [f"Chapter {i}. It was a day like day {i % 7}, and nobody came home." for i in range(60)]
PROSE = "\n<|endoftext|>\n".join(CHAPTERS)
CLAIMS = ("zhang2024.loss-falls-at-the-rate-of-the-bound", "sander2024.rotations-obey-a-three-term-recurrence")
MODEL = ("--model", "stories260K", "--device", "cpu", "--items", "4", "--rates", "0.05", "--epochs", "1", "2")
SIZES = "--vocabulary 300 --width 16 --layers 1 --heads 2 --inner 24 --window 32 --batch 2 --steps 60 --device cpu"
LONGER = SIZES.replace("--window 32", "--window 256").replace("--steps 60", "--steps 3")
COMMANDS: dict[str, tuple[str, ...]] = {
    "reproduce": ("reproduce", *CLAIMS, "--workers", "2"),
    "train": ("train", "INPUT/own.toml"),
    "sweep": ("sweep", "INPUT/plan.toml", "--workers", "2"),
    "lm compare": ("lm", "compare", *MODEL, "--shots", "2", "--sets", "2", "--development", "4"),
    "lm order": ("lm", "order", *MODEL, "--shots", "2", "--sets", "2", "--orders", "2"),
    "lm mask": ("lm", "mask", *MODEL[:6], "--shots", "2", "--seeds", "1", "--steps", "12", "--episodes", "2"),
    "lm pretrain": ("lm", "pretrain", "INPUT/text.txt", *SIZES.split()),
    "identify": ("identify", "INPUT/run", "--count", "16", "--points", "4", "8"),
    "identify --lm": ("identify", "--lm", "INPUT/model", "--count", "16", "--points", "4", "--device", "cpu"),
}
# What has to be there before a command runs.
BEFORE = {
    "identify": ("train", "INPUT/own.toml", "--out", "INPUT/run"),
    "identify --lm": ("lm", "pretrain", "INPUT/text.txt", *LONGER.split(), "--out", "INPUT/model"),
}
# What two runs of the same work may differ in.
VOLATILE = {"finished", "seconds", "commit", "digest", "training seconds", "reading seconds", "training_args.bin"}
DRAWN = {".html", ".svg", ".pdf", ".md"}
PATIENCE = 600.0
# The seconds that processes have to notice that the one that started them is gone; they may be importing.
LAST_BREATH = 60.0
# Kills of one folder before its results are compared: later ones hit a run that resumes.
TOGETHER = 4
# The share of an undisturbed run that a sitting gets at first, and by how much it may be late, in seconds.
SHARE, LATE = 0.7, 15.0
MOST_SITTINGS = 40
SHARDS = 4
OUT_OF_TIME = 75
LONGER_EACH = 1.25


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
        return self.program(*COMMANDS[name], "--out", str(out))

    def program(self, *words: str) -> list[str]:
        """The words of a start of the program."""
        return [sys.executable, "-m", "insitu", *(word.replace("INPUT", str(self.root / "input")) for word in words)]

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
    # Folders and seconds stand in them; their numbers stand in records too.
    if path.name == "training_args.bin" or path.suffix in (".csv", ".parquet"):
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


def gone(session: int) -> str:
    """Wait until all processes of a session end by themselves; what those that do not are called."""
    end = time.monotonic() + LAST_BREATH
    while alive(session) and time.monotonic() < end:
        time.sleep(0.1)
    names = []
    for pid in alive(session):
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            names.append(f"{pid}: {shlex.join(psutil.Process(pid).cmdline())[:200]}")
            os.kill(pid, signal.SIGKILL)
    return "; ".join(names)


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
        gone(process.pid)


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
    if name in BEFORE and finish(place, place.program(*BEFORE[name])):
        sys.exit(f"what {name} needs could not be made: {place.log}")
    began = time.monotonic()
    code = finish(place, place.command(name, root / "whole"))
    if code:
        sys.exit(f"{name} ended with {code}: {place.log}")
    return Case(name, place, contents(root / "whole"), time.monotonic() - began)


def kill(given: Case, moments: Sequence[float], findings: Findings) -> None:
    """Kill a command at one moment after the other, run it to its end, and compare."""
    out = given.place.root / "killed"
    shutil.rmtree(out, ignore_errors=True)
    words = [*given.place.command(given.name, out), "--resume"]
    what = f"{given.name} of {given.seconds:.1f} s, killed after {', '.join(f'{moment:.2f}' for moment in moments)}"
    for moment in moments:
        process = given.place.start(words)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        process.kill()
        process.wait()
        survivors = gone(process.pid)
        findings.check(not survivors, f"{what}: a process lives on: {survivors}")
        findings.check("Traceback" not in given.place.log, f"{what}: {given.place.log[-300:]}")
        findings.tried += 1
    code = finish(given.place, words)
    compare(given, out, f"{what}, then resumed ({code})", findings)


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
    # A cache that PyTorch makes, killed or not.
    caches = "torchinductor_"
    temporary = [path.name for path in (given.place.root / "tmp").iterdir() if not path.name.startswith(caches)]
    findings.check(not temporary, f"{what}: left over among temporary files: {temporary}")
    for name in temporary:
        shutil.rmtree(given.place.root / "tmp" / name, ignore_errors=True)


def kills(root: Path, options: argparse.Namespace, findings: Findings) -> None:
    """So many kills, taking turns among the commands."""
    draw = random.Random(options.seed)
    cases = [case(name, root / name.replace(" ", "-")) for name in options.commands or COMMANDS]
    for number in range(math.ceil(options.count / TOGETHER)):
        given = cases[number % len(cases)]
        kill(given, [draw.uniform(0.0, given.seconds) for _ in range(TOGETHER)], findings)
        print(f"{findings.tried:>4}/{options.count}  {given.name}  {len(findings.wrong)} wrong", flush=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at a folder; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "insitu-faults", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def changed_disk(folder: Path, how: str) -> None:
    """Another size, or another permission, of the file system at a folder."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def refused(given: Case, code: int, what: str, findings: Findings) -> None:
    """What cannot be written ends in one paragraph."""
    lines = given.place.log.strip().splitlines()
    fine = code == 2 and "Traceback" not in given.place.log and lines[-1].startswith("error: ")
    findings.check(fine, f"{what}: exit code {code}, {given.place.log[-600:]}")


def disk(given: Case, draw: random.Random, findings: Findings) -> None:
    """Fill the disk at a random moment, make room, run again, and compare."""
    out = given.place.root / "disk"
    needed = sum(path.stat().st_size for path in (given.place.root / "whole").rglob("*") if path.is_file())
    size = draw.randrange(4096, needed)
    words = [*given.place.command(given.name, out), "--resume"]
    what = f"{given.name} on a disk of {size} of {needed} bytes"
    with small_disk(out, size):
        refused(given, finish(given.place, words), what, findings)
        # States of work under way are kept, with the lock of a worker that was ended; the next run removes them.
        kept = {out / "unfinished", *(out / "unfinished").rglob(".lock")}
        left = [path for path in leftovers(out) if Path(path) not in kept]
        findings.check(not left, f"{what}: left over: {left}")
        changed_disk(out, "size=64m")
        code = finish(given.place, words)
        compare(given, out, f"{what}, then with room ({code})", findings)
    findings.tried += 1


def disks(root: Path, options: argparse.Namespace, findings: Findings) -> None:
    """So many full disks, taking turns among the commands, and one that is read only for each."""
    draw = random.Random(options.seed)
    cases = [case(name, root / name.replace(" ", "-")) for name in options.commands or COMMANDS]
    for given in cases:
        out = given.place.root / "read-only"
        with small_disk(out, 2**20):
            changed_disk(out, "ro")
            refused(given, finish(given.place, given.place.command(given.name, out)), f"{given.name}, ro", findings)
        findings.tried += 1
    for number in range(options.count):
        disk(cases[number % len(cases)], draw, findings)
        print(f"{number + 1:>4}/{options.count}  {len(findings.wrong)} wrong", flush=True)


def strange_homes() -> dict[str, dict[str, str | None]]:
    """Environments that lack what most have."""
    nowhere = "/proc/nowhere"
    return {
        "no home": {"HOME": None, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None},
        "a home that cannot be written": {"HOME": nowhere, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None},
        "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    }


def surroundings(root: Path, options: argparse.Namespace, findings: Findings) -> None:
    """Every command without a home, into a closed pipe, and with a clock that went backwards."""
    for name in options.commands or COMMANDS:
        given = case(name, root / name.replace(" ", "-"))
        out = given.place.root / "strange"
        for what, environment in strange_homes().items():
            shutil.rmtree(out, ignore_errors=True)
            with changed_environment(environment):
                code = finish(given.place, given.place.command(name, out))
            compare(given, out, f"{name}, {what} ({code})", findings)
            findings.check(code == 0, f"{name}, {what}: exit code {code}, {given.place.log[-600:]}")
        for path in out.rglob("*"):
            os.utime(path, (4e9, 4e9))
        code = finish(given.place, [*given.place.command(name, out), "--resume"])
        compare(given, out, f"{name}, resumed before it was written ({code})", findings)
        shell = f"{shlex.join([*given.place.command(name, out), '--resume'])} | true"
        code = finish(given.place, ["bash", "-o", "pipefail", "-c", shell])
        findings.check(code == 0 and "Traceback" not in given.place.log, f"{name} | true: {code}, {given.place.log}")
        findings.tried += 5
        print(f"{name}  {len(findings.wrong)} wrong", flush=True)


@contextlib.contextmanager
def changed_environment(changes: dict[str, str | None]) -> Iterator[None]:
    """Some variables of the environment set or, where none, removed."""
    before = dict(os.environ)
    for name, value in changes.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def shards(root: Path, options: argparse.Namespace, findings: Findings) -> None:
    """So many times: four shards of one list at once in one folder, one killed, then the whole command."""
    draw = random.Random(options.seed)
    given = case("sweep", root / "sweep")
    for number in range(options.count):
        out = given.place.root / f"shards-{number}"
        words = [*given.place.command("sweep", out), "--resume"]
        parts = [given.place.start([*words, "--shard", f"{k}/{SHARDS}"]) for k in range(1, SHARDS + 1)]
        killed, moment = parts[draw.randrange(SHARDS)], draw.uniform(0.3, 1.0) * given.seconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            killed.wait(moment)
        killed.kill()
        codes = [part.wait(PATIENCE) for part in parts]
        survivors = "; ".join(filter(None, (gone(part.pid) for part in parts)))
        what = f"shards of {SHARDS}, one killed after {moment:.1f} s"
        findings.check(not survivors, f"{what}: a process lives on: {survivors}")
        others = {code for part, code in zip(parts, codes, strict=True) if part is not killed}
        findings.check(others == {0}, f"{what}: the others ended with {others}")
        code = finish(given.place, words)
        compare(given, out, f"{what}, then the whole ({code})", findings)
        findings.tried += 1
        print(f"{number + 1:>4}/{options.count}  {len(findings.wrong)} wrong", flush=True)


def sit(given: Case, findings: Findings) -> None:
    """Run a command in sittings until it is done, and compare."""
    out, seconds, times = given.place.root / "sittings", SHARE * given.seconds, []
    for _ in range(MOST_SITTINGS):
        began = time.monotonic()
        code = finish(given.place, [*given.place.command(given.name, out), "--budget", f"{seconds:.1f}s"])
        times.append(time.monotonic() - began)
        findings.tried += 1
        what = f"{given.name}, sitting {len(times)} of {seconds:.0f} s"
        findings.check(times[-1] < seconds + LATE, f"{what}: it took {times[-1]:.0f} s")
        findings.check(code in (0, OUT_OF_TIME), f"{what}: exit code {code}, {given.place.log[-600:]}")
        if code != OUT_OF_TIME:
            break
        # The start of the program may take most of a short one.
        seconds *= LONGER_EACH
    compare(given, out, f"{given.name} in {len(times)} sittings ({code})", findings)
    print(f"{given.name}  {', '.join(f'{t:.0f}' for t in times)} s  {len(findings.wrong)} wrong", flush=True)


def sittings(root: Path, options: argparse.Namespace, findings: Findings) -> None:
    """Every command in sittings that are shorter than an undisturbed run."""
    for name in options.commands or COMMANDS:
        sit(case(name, root / name.replace(" ", "-")), findings)


FAULTS: dict[str, Callable[[Path, argparse.Namespace, Findings], None]] = {
    "kills": kills,
    "disks": disks,
    "surroundings": surroundings,
    "shards": shards,
    "sittings": sittings,
}


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

"""Every kind of file that the program reads, with a bit flipped or cut short, at many random places.

    python -m benchmarks.damage --count 200

A damaged file is refused in one paragraph, or reads as what it was. A file of the user's own, which carries no digest,
may also read as something else; what no file may do is end in a traceback.
"""

import argparse
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults import CHAPTERS, SWEEP, TRAINING, Findings
from insitu.claims.job import ClaimJob
from insitu.claims.record import read_record
from insitu.errors import InputError
from insitu.exchange import load_answers, load_prompts, save_answers, save_prompts
from insitu.language import load_corpus, load_language_model, load_template
from insitu.language.models.pretrained import DATA, quiet
from insitu.language.pretraining.pretraining import Pretraining, pretrain, read_documents
from insitu.language.pretraining.trainer_states import newest_state
from insitu.models import load_network, named_predictor
from insitu.papers import PAPERS
from insitu.records import read_json
from insitu.seed import Seed
from insitu.storage import read_with_digest
from insitu.sweeps.plan_file import read_sweep
from insitu.tasks import Gaussian, LinearRegression
from insitu.training.config import read_training
from insitu.training.history import load_past
from insitu.training.session import cut_metrics, read_metrics, run_training

RECIPE = Pretraining(vocabulary=300, width=16, layers=1, heads=2, inner=24, window=32, batch=2, steps=4)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        path: A whole one.
        read: What reads it, as something that compares.
        sealed: Whether it carries a digest, so that nothing else may be read from it.
    """

    path: Path
    read: Callable[[], Any]
    sealed: bool


def trained(root: Path) -> Mapping[str, Kind]:
    """The files of a training."""
    (root / "own.toml").write_text(TRAINING.replace("steps = 400", "steps = 8"))
    run = root / "run"
    training = read_training(root / "own.toml")
    for _ in run_training(training, Seed(0), run, CPU):
        pass
    network = next(run.glob("*/config.json")).parent
    weights = lambda: [(repr(n.architecture), n.state_dict()) for n in [load_network(network)]]  # noqa: E731
    return {
        "weights": Kind(network / "model.safetensors", weights, True),
        "architecture": Kind(network / "config.json", weights, True),
        "past": Kind(network / "training.json", lambda: repr(load_past(network)), True),
        # A last line that was cut is left out; that all steps are there is checked by what resumes.
        "metrics": Kind(run / "metrics.jsonl", lambda: (cut_metrics(run, training, 8), read_metrics(run)), True),
        "state": Kind(run / "training.pt", lambda: read_with_digest(run / "training.pt"), True),
        "checkpoint in a learner": Kind(
            network / "config.json", lambda: repr(named_predictor(f"Checkpoint({str(network)!r})").architecture), True
        ),
    }


def pretrained(root: Path) -> Mapping[str, Kind]:
    """The files of a pretraining."""
    text, run = root / "text.txt", root / "model"
    text.write_text("\n<|endoftext|>\n".join(CHAPTERS))
    pretrain(RECIPE, text, run, snapshots=1, device=CPU)
    state = run / "state" / "checkpoint-4"
    whole = lambda: newest_state(run / "state")  # noqa: E731
    names = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth")
    states = {f"state: {name}": Kind(state / name, whole, True) for name in (*names, "sha256.json")}
    own = {f"model: {name}": Kind(run / name, lambda: model_of(run), True) for name in MODEL_FILES}
    return {**states, **own, "text": Kind(text, lambda: list(read_documents(text)), False)}


MODEL_FILES = ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def model_of(folder: Path) -> Any:
    """What a language model is, as far as it shows: its weights, and the tokens of a text."""
    model = load_language_model(folder)
    return model.encode("Chapter 3. It was a day"), model.network.state_dict()


def foreign(root: Path) -> Mapping[str, Kind]:
    """The files of a language model that carries no digests."""
    place = Path(shutil.copytree(DATA / "stories260K", root / "foreign"))
    names = sorted(path.name for path in place.iterdir() if path.is_file() and path.suffix != ".md")
    return {f"foreign model: {name}": Kind(place / name, lambda: model_of(place), False) for name in names}


def claimed(root: Path) -> Mapping[str, Kind]:
    """The record of a claim."""
    paper = PAPERS["zhang2024"]
    claim = next(c for c in paper.claims if c.id == "zhang2024.one-formula-behind-four-papers")
    ClaimJob(claim, paper, "quick", 0, "cpu", root / "claims").run()
    (path,) = (root / "claims" / "records").iterdir()
    return {
        "record": Kind(path, lambda: read_json(path), True),
        "record of a claim": Kind(path, lambda: repr(read_record(path)), True),
    }


def own_files(root: Path) -> Mapping[str, Kind]:
    """Files that users write."""
    prompts, answers, plan = root / "P.npz", root / "A.npz", root / "plan.toml"
    episode = LinearRegression(Gaussian(2)).sample(Seed(0), 4, 3, 2)
    save_prompts(prompts, episode.prompt)
    whole = load_prompts(prompts)
    save_answers(answers, episode.answers, scalar=True)
    plan.write_text(SWEEP)
    (root / "plain.toml").write_text(TRAINING)
    (root / "template.toml").write_text(
        '[own]\nquestion = "Text: "\nanswer = "Kind:"\nwords = { a = "fact", b = "view" }\n'
    )
    rows = [f"good film {i},a\ndull plot {i},b\n" for i in range(8)]
    (root / "rows.csv").write_text(f"text,label\n{''.join(rows)}")
    return {
        "prompts": Kind(prompts, lambda: vars(load_prompts(prompts)), False),
        "answers": Kind(answers, lambda: load_answers(answers, whole), False),
        "plan": Kind(plan, lambda: repr(read_sweep(plan)), False),
        "training": Kind(root / "plain.toml", lambda: repr(read_training(root / "plain.toml")), False),
        "template": Kind(root / "template.toml", lambda: repr(load_template(str(root / "template.toml"))), False),
        "rows": Kind(root / "rows.csv", lambda: repr(load_corpus(str(root / "rows.csv"))), False),
    }


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The content with one bit flipped, cut short, with a part overwritten, or with something behind it."""
    place = draw.randrange(len(content))
    how = draw.randrange(5)
    if how == 0:
        return content[:place]
    if how == 1:
        return content + draw.randbytes(draw.randrange(1, 9))
    if how == 2:
        size = draw.randrange(1, 65)
        return content[:place] + draw.randbytes(size) + content[place + size :]
    flipped = bytearray(content)
    flipped[place] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def same(a: Any, b: Any) -> bool:
    """Whether two values are alike, tensors to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def tries(name: str, kind: Kind, count: int, draw: random.Random, findings: Findings) -> None:
    """Damage one file so many times, and read it."""
    content, expected = kind.path.read_bytes(), kind.read()
    for _ in range(count):
        harmed = damaged(content, draw)
        kind.path.write_bytes(harmed)
        findings.tried += 1
        try:
            value = kind.read()
        except InputError as error:
            findings.check("\n\n" not in str(error).strip(), f"{name}: more than a paragraph: {str(error)[:300]!r}")
        except Exception as error:
            findings.check(False, f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        else:
            fine = not kind.sealed or same(value, expected)
            findings.check(fine, f"{name}: reads as something else")
    kind.path.write_bytes(content)


def main() -> None:
    """Damage every kind of file; the exit code is 1 if something was wrong."""
    parser = argparse.ArgumentParser(description="Damages every kind of file that the program reads.")
    parser.add_argument("--count", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the random places")
    options = parser.parse_args()
    draw, findings = random.Random(options.seed), Findings()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name, quiet():
        for make in (trained, pretrained, claimed, own_files, foreign):
            for kind, own in make(Path(name)).items():
                tries(kind, own, options.count, draw, findings)
                print(f"{kind}: {options.count} tried", flush=True)
    print(f"{findings.tried} tried, {len(findings.wrong)} wrong")
    sys.exit(bool(findings.wrong))


if __name__ == "__main__":
    main()

"""Small language models pretrained under either mask, from records of ``insitu lm pretrain --mask``.

Pretraining takes too long for every run, so the claims read its records. Those of quick scale are in the repository
with what made them: recipe, digests of texts, tokeniser and weights, versions and commit. The models of a pair have the
same start, text, order and cuts; a record whose pair differs in anything but the mask is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, Study, line
from insitu.errors import InputError
from insitu.language.measure.pretraining_history import ACCURACY, KIND, LOSS
from insitu.metrics import Estimate
from insitu.papers.shen2024.setting import accuracy_gap, power
from insitu.records import read_folder

__all__ = ["CLAIMS", "Histories", "Pretrainings", "histories"]

# The quantities that measurements estimate and rules decide.
LOSS_GAIN = "loss of held-out continuations, causal - prefix"
ACCURACY_GAIN = "accuracy in context, prefix - causal"
MASKS = ("prefix", "causal")
BUNDLED = "bundled"


@dataclass(frozen=True)
class Pretrainings:
    """Whose records are read.

    Args:
        folder: *bundled*, or a folder of pretrainings, each of which has its record.
        starts: How many pretrainings there are under each mask.
        parameters: The least number of parameters of a model.
    """

    folder: str
    starts: int
    parameters: int


@dataclass(frozen=True)
class Histories:
    """What was measured along the pretrainings, under either mask.

    Args:
        steps: The steps at which it was.
        loss: The loss of held-out continuations in nats a token.
        accuracy: The accuracy in context among the label words.
        questions: How many questions an accuracy is the share of.
    """

    steps: tuple[int, ...]
    loss: Mapping[str, Float[Tensor, "start step"]]
    accuracy: Mapping[str, Float[Tensor, "start step"]]
    questions: int


def folders(place: str) -> list[Path]:
    """The folders of pretrainings, each with a folder of records."""
    root = Path(__file__).parent / "pretrainings" if place == BUNDLED else Path(place)
    return sorted(path.parent for path in root.glob("*/records"))


def missing_pretrainings(setting: Pretrainings) -> str:
    """What keeps the records from being read: that the models have not been trained."""
    if len(folders(setting.folder)) == len(MASKS) * setting.starts:
        return ""
    return (
        f"there are no {len(MASKS) * setting.starts} pretrainings in {setting.folder}; docs/papers.md has the commands "
        "that make them (insitu lm pretrain --mask)"
    )


def intact_records(place: str) -> list[dict[str, Any]]:
    """The records of pretrainings under a mask.

    Raises:
        InputError: If a record is damaged.
    """
    intact = []
    for folder in folders(place):
        records, damaged = read_folder(folder)
        if damaged:
            raise InputError(f"pretrainings: {damaged[0].path} is damaged ({damaged[0].reason}); train it again.")
        intact += [record for record in records.values() if record.get("kind") == KIND]
    return intact


def paired(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    """The records of every start by their mask.

    Raises:
        InputError: If a start lacks a mask, or a pair differs in more than it.
    """
    pairs: dict[int, dict[str, Mapping[str, Any]]] = {}
    for record in records:
        pairs.setdefault(record["recipe"]["seed"], {})[record["recipe"]["mask"]] = record
    for seed, pair in pairs.items():
        if set(pair) != set(MASKS):
            raise InputError(f"pretrainings: start {seed} has the masks {', '.join(sorted(pair))}; both are needed.")
        prefix, causal = (made_of(pair[mask]) for mask in MASKS)
        if differing := [name for name in prefix if prefix[name] != causal[name]]:
            raise InputError(
                f"pretrainings: the two of start {seed} differ in {', '.join(differing)}, not in the mask alone; train "
                "them again with the same command."
            )
    return [pairs[seed] for seed in sorted(pairs)]


def made_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same under both masks."""
    recipe = {name: value for name, value in record["recipe"].items() if name != "mask"}
    steps = [row["step"] for row in record["rows"]]
    return (
        recipe | {name: record[name] for name in ("texts", "tokeniser", "asked", "parameters")} | {"snapshots": steps}
    )


def histories(run: Run) -> Histories:
    """What the records of all starts hold.

    Raises:
        InputError: If a record is damaged, a pair does not match, or a model is too small.
    """
    s: Pretrainings = run.setting
    pairs = paired(intact_records(s.folder))
    first = pairs[0][MASKS[0]]
    if first["parameters"] < s.parameters:
        raise InputError(f"pretrainings: {s.parameters:,} parameters are needed; got {first['parameters']:,}.")
    columns = {name: {mask: column(pairs, mask, name) for mask in MASKS} for name in (LOSS, ACCURACY)}
    evaluation = first["asked"]
    steps = tuple(row["step"] for row in first["rows"])
    return Histories(steps, columns[LOSS], columns[ACCURACY], evaluation["sets"] * evaluation["items"])


def column(pairs: Sequence[Mapping[str, Mapping[str, Any]]], mask: str, name: str) -> Float[Tensor, "start step"]:
    """A measure of every start and snapshot under a mask, the mean where it is one of several sets."""
    values = [[row[name] for row in pair[mask]["rows"]] for pair in pairs]
    table = torch.tensor(values, dtype=torch.float64)
    return table if table.ndim == 2 else table.mean(-1)


HISTORIES = Study("ding2024.pretraining_histories", histories)


def measure_loss(run: Run, *, ahead: str = "prefix", behind: str = "causal") -> Measurement:
    """By how much the last checkpoints differ on held-out continuations."""
    histories: Histories = run.study
    estimates = {LOSS_GAIN: Estimate.mean((histories.loss[behind] - histories.loss[ahead])[:, -1])}
    means = ", ".join(f"{mask} {histories.loss[mask][:, -1].mean():.4f}" for mask in MASKS)
    note = f"Loss of the last checkpoints in nats a token: {means}."
    return Measurement(estimates, draw(histories), (note, power(estimates)))


def measure_accuracy(run: Run, *, ahead: str = "prefix", behind: str = "causal") -> Measurement:
    """By how much the last checkpoints differ in accuracy in context."""
    histories: Histories = run.study
    gaps = (histories.accuracy[ahead] - histories.accuracy[behind])[:, -1]
    estimates = {ACCURACY_GAIN: accuracy_gap(gaps, histories.questions)}
    means = ", ".join(f"{mask} {histories.accuracy[mask][:, -1].mean():.3f}" for mask in MASKS)
    note = f"Accuracy of the last checkpoints among the label words: {means}; guessing gives 0.5."
    return Measurement(estimates, draw(histories), (note, power(estimates)))


def draw(histories: Histories) -> Figure:
    """Both measures along training: the mean over starts, and the range of them."""
    panels = [
        Panel("step", label, tuple(curve(histories.steps, mask, of[mask], i) for i, mask in enumerate(MASKS)))
        for label, of in (
            ("loss of held-out continuations (nats a token)", histories.loss),
            ("accuracy in context", histories.accuracy),
        )
    ]
    return Figure(
        tuple(panels),
        f"Small language models pretrained under either mask, {len(histories.loss['prefix'])} starts each: mean, and "
        "range over starts. Blocks are cut at a random place, and the loss counts what follows the cut.",
        "Two panels against the training step, each with a curve for the prefix mask and one for the causal mask.",
    )


def curve(steps: Sequence[int], mask: str, values: Float[Tensor, "start step"], colour: int) -> Any:
    return line(mask, steps, values.mean(0), low=values.amin(0), high=values.amax(0), colour=colour)


QUICK = Pretrainings(BUNDLED, starts=3, parameters=400_000)
# Ten times the size, in a folder that its commands make on a GPU.
FULL = Pretrainings("runs/pretrained-masks", starts=3, parameters=4_000_000)

CLAIMS = tuple(
    Claim(
        id=f"ding2024.{name}",
        statement=statement,
        source="Section 5.3, table 2",
        rules=(rule,),
        measure=measure,
        quick=QUICK,
        full=FULL,
        quick_seconds=1.0,
        full_hours=0.1,
        reduced="Llamas of 0.43 million parameters, trained on 1.5 million tokens of books, reviews and speeches, in "
        "place of T5 decoders of 12 and 24 layers on C4; not tuned on FLAN; records of trainings that were made once.",
        study=HISTORIES,
        missing=missing_pretrainings,
    )
    for name, statement, rule, measure in (
        (
            "prefix-pretraining-lowers-the-loss",
            "A small language model pretrained to continue texts whose beginnings see each other in both directions "
            "predicts held-out continuations better than one pretrained causally from the same start, on the same "
            "text. (The paper compares the accuracy of such models alone).",
            Rule(LOSS_GAIN, low=0.0),
            measure_loss,
        ),
        (
            "prefix-pretraining-helps-in-context",
            "A small language model pretrained under the prefix mask answers questions in context better, under that "
            "mask, than one pretrained causally, under its own.",
            Rule(
                ACCURACY_GAIN,
                low=0.0,
                printed="MMLU +0.8, +5.1, +9.0; BBH +2.6, +2.4, +3.8 points for three sizes",
            ),
            measure_accuracy,
        ),
    )
)

"""Models to be identified, wherever they live: diagnostic prompts as files, answers from files, answers of a network.

``P.npz`` is an ordinary file of prompts with one array more, ``diagnostic``, which names the kind of every prompt; a
file without it is as welcome. A file holds one context length, so diagnostics at several lengths are several files:
the longest under the name that was asked for, the others beside it, and a manifest that says what each prompt is for.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor

from insitu.errors import InputError
from insitu.exchange import PromptFile, load_answers, load_prompts, save_prompts
from insitu.identification import Answered
from insitu.identification.diagnostics import TELLS, Diagnosed, Plan, diagnostic_prompts
from insitu.models import Architecture, Decoder, Network, Transformer, named_predictor
from insitu.predictor import Predictor
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.storage import write_atomically

__all__ = ["answered_by", "answered_in_files", "emit", "model_named", "plan_for"]


def emit(path: Path, plan: Plan, seed: Seed) -> dict[str, Any]:
    """Write diagnostic prompts, a file for each context length, and their manifest.

    Returns:
        The manifest: the files, the rows of each diagnostic in them, and what it tells apart.

    Raises:
        InputError: If the path is a folder.
        StorageError: If a file cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected the name of the npz file to write.")
    files = []
    for index, found in enumerate(diagnostic_prompts(plan, seed)):
        place = path if index == 0 else path.with_name(f"{path.stem}.n{found.prompt.points}{path.suffix or '.npz'}")
        save_prompts(place, found.prompt, found.names)
        files.append({"file": place.name, "points": found.prompt.points, "diagnostics": rows(found)})
    manifest = {
        "prompts": "arrays xs, ys and queries; answer each query of each prompt from its examples alone",
        "answers": "an npz with one array, answers (batch, query) or (batch, query, out), for each file",
        "kind": plan.kind,
        "seed": str(seed),
        "files": files,
    }
    write_atomically(path.with_suffix(".json"), (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def rows(found: Diagnosed) -> list[dict[str, Any]]:
    """Where the prompts of each diagnostic lie: from the first row up to, but without, the last."""
    listed, start = [], 0
    for name, run in groupby(found.names):
        stop = start + len(list(run))
        listed.append({"name": name, "rows": [start, stop], "tells apart": TELLS[name]})
        start = stop
    return listed


def answered_in_files(prompts: Sequence[Path], answers: Sequence[Path]) -> list[Answered]:
    """Prompts and answers from files, the first answers to the first prompts.

    Raises:
        InputError: If there are not as many of one as of the other, or a file cannot be used.
    """
    if not prompts or len(prompts) != len(answers):
        raise InputError(
            f"identify needs --model, or one --answers for every --prompts; got {len(prompts)} files of prompts and "
            f"{len(answers)} of answers. Diagnostic prompts to be answered come from: "
            "insitu identify --emit-prompts P.npz"
        )
    found = []
    for asked, told in zip(map(load_prompts, prompts), answers, strict=True):
        given = load_answers(told, asked)
        try:
            found.append(Answered(asked.prompt, given, asked.names))
        except InputError as error:
            raise InputError(f"{told}: {error}") from None
    return found


def model_named(text: str) -> Predictor:
    """The network in a folder, or the learner that prints as the text."""
    return named_predictor(text if "(" in text else f"Checkpoint({text!r})")


def plan_for(model: Predictor, wanted: Plan) -> Plan:
    """The diagnostics that fit a model: a network knows its dimension, its outputs and how much it can read.

    Raises:
        InputError: If no context length fits its positions.
    """
    if not isinstance(model, Network):
        return wanted
    shape = model.architecture
    kind = "sequence" if isinstance(shape, Architecture) and shape.encoding == "augmented" else wanted.kind
    plan = Plan(shape.dim, wanted.points, wanted.count, kind, 1 if kind == "sequence" else shape.out)
    room = room_of(model)
    lengths = tuple(points for points in plan.lengths if points <= room)
    if wanted.points and len(lengths) < len(plan.lengths):
        raise InputError(
            f"identify: the network has positions for {room} examples, and --points asks for {plan.lengths[0]}."
        )
    # Where the longest of the usual lengths does not fit, the longest that does takes its place.
    return replace(plan, points=lengths if len(lengths) == len(plan.lengths) else (int(room), *lengths))


def room_of(model: Network) -> float:
    """The most examples that a network has positions for."""
    if isinstance(model, Decoder):
        return model.architecture.points - 1
    return model.architecture.positions if isinstance(model, Transformer) and model.positions is not None else math.inf


def answered_by(
    model: Predictor, asked: Sequence[Diagnosed | PromptFile], answer: Callable[[Predictor, Prompt], Tensor]
) -> list[Answered]:
    """Prompts with a model's own answers, in the precision in which it computes."""
    single = isinstance(model, Network) and next(model.parameters()).dtype
    found = []
    for given in asked:
        answers = answer(model, given.prompt)
        found.append(Answered(given.prompt, answers.to(single) if single else answers, given.names))
    return found

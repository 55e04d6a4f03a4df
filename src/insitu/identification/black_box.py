"""Models to be identified, wherever they live: diagnostic prompts as files, answers from files, answers of a network.

``P.npz`` is an ordinary file of prompts with one array more, ``diagnostic``, which names the kind of every prompt; a
file without it is as welcome. A file holds one context length, so diagnostics at several lengths are several files:
the longest under the name that was asked for, the others beside it, and a manifest that says what each prompt is for.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from insitu.errors import InputError
from insitu.exchange import PromptFile, load_answers, load_prompts, save_prompts
from insitu.identification import Answered, Identification, identify
from insitu.identification.diagnostics import TELLS, Diagnosed, Plan, diagnostic_prompts
from insitu.identification.scoring import predicted
from insitu.models import Network, named_predictor
from insitu.predictor import Predictor, as_predictor
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.storage import write_atomically

__all__ = [
    "answered_in_files",
    "answers_in_parts",
    "ask",
    "emit",
    "identify_model",
    "interleaved",
    "model_named",
    "plan_for",
]

# Numbers of one batch of prompts, about.
NUMBERS = 20_000_000


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
    kind = "sequence" if model.prompts == "sequence" else wanted.kind
    plan = replace(wanted, dim=shape.dim, kind=kind, out=1 if kind == "sequence" else shape.out)
    lengths = tuple(points for points in plan.lengths if points <= model.room)
    if wanted.points and len(lengths) < len(plan.lengths):
        raise InputError(
            f"identify: the network has positions for {model.room} examples, and --points asks for {plan.lengths[0]}."
        )
    # Where the longest of the usual lengths does not fit, the longest that does takes its place.
    return replace(plan, points=lengths if len(lengths) == len(plan.lengths) else (int(model.room), *lengths))


def answers_in_parts(model: Predictor, prompt: Prompt) -> Tensor:
    """A model's answers, some prompts at a time."""
    size = prompt.points * prompt.dim * max(prompt.dim, prompt.queries.shape[1], prompt.out)
    parts = zip(*(t.split(max(1, NUMBERS // size)) for t in (prompt.xs, prompt.ys, prompt.queries)), strict=True)
    return torch.cat([predicted(model, Prompt(*part)) for part in parts])


def ask(
    model: Predictor,
    prompts: Sequence[Diagnosed | PromptFile],
    answer: Callable[[Predictor, Prompt], Tensor] = answers_in_parts,
) -> list[Answered]:
    """Prompts with a model's own answers, in the precision in which it computes."""
    single = isinstance(model, Network) and next(model.parameters()).dtype
    found = []
    for given in prompts:
        answers = answer(model, given.prompt)
        found.append(Answered(given.prompt, answers.to(single) if single else answers, given.names))
    return found


def identify_model(
    model: Predictor | Callable[..., Any],
    plan: Plan,
    seed: Seed,
    *,
    candidates: Sequence[Predictor] = (),
    answer: Callable[[Predictor, Prompt], Tensor] = answers_in_parts,
    tell: Callable[[str], None] = lambda what: None,
) -> Identification:
    """Ask a model the prompts of a plan, and name the learner behind its answers.

    Args:
        model: A predictor, a network, or any function ``(xs, ys, queries) -> answers`` in PyTorch or NumPy.
        plan: The diagnostic prompts; what a network knows of them it decides itself.
        seed: Where they are drawn.
        candidates: Further candidates, which are not fitted.
        answer: How it is asked.
        tell: Is told what is being tried, for a progress line.

    Raises:
        InputError: If the answers have another shape than the prompts ask for, or cannot be compared.

    Example:
        >>> found = identify_model(lambda xs, ys, queries: queries @ (xs.swapaxes(1, 2) @ ys) / xs.shape[1],
        ...                        Plan(dim=3, count=16), Seed(0))
        >>> found.verdict, found.best.learner
        ('indistinguishable', GradientDescent(steps=1, rate=1.0))
    """
    predictor = as_predictor(model)
    answered = ask(predictor, diagnostic_prompts(plan_for(predictor, plan), seed), answer)
    return identify(answered, candidates=candidates, seed=seed / "identify", tell=tell)


def interleaved(
    model: Callable[[Tensor], Tensor], width: int | None = None
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A model that reads x_1, y_1, x_2, ..., x_q as tokens of one width, as a function of prompts.

    Args:
        model: Tokens ``(sequence, 2 n + 1, width)`` to outputs ``(sequence, 2 n + 1)`` or ``(sequence, 2 n + 1,
            out)``; the output at an input is the answer to it.
        width: The width of a token; inputs and labels are filled up with zeros. The larger of the two where none is
            given.

    References:
        Garg, Tsipras, Liang and Valiant (2022), whose models read prompts so.

    Example:
        >>> last_label = interleaved(lambda tokens: tokens[..., 0].roll(1, dims=1))
        >>> last_label(torch.zeros(1, 2, 3), torch.tensor([[[1.0], [5.0]]]), torch.zeros(1, 4, 3))
        tensor([[[5.],
                 [5.],
                 [5.],
                 [5.]]])
    """

    def answers(xs: Tensor, ys: Tensor, queries: Tensor) -> Tensor:
        (batch, points, dim), out, count = xs.shape, ys.shape[-1], queries.shape[1]
        size = width or max(dim, out)
        x, y = (nn.functional.pad(t, (0, size - t.shape[-1])) for t in (xs, ys))
        pairs = torch.stack([x, y], dim=2).flatten(1, 2)
        # Every query ends a sequence of its own.
        context = pairs[:, None].expand(-1, count, -1, -1).flatten(0, 1)
        last = nn.functional.pad(queries, (0, size - dim)).flatten(0, 1)[:, None]
        outputs = model(torch.cat([context, last], dim=1))
        read = outputs[..., None] if outputs.ndim == 2 else outputs
        return read[:, 2 * points, :out].unflatten(0, (batch, count))

    return answers

"""What a pretraining under either mask learns on its way: held-out continuations, and accuracy in context."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from insitu.errors import InputError
from insitu.language import Attention, LanguageModel, load_corpus, load_template
from insitu.language.measure.bench import Bench, set_up, weights_digest
from insitu.language.measure.drift import accuracy_in_context
from insitu.language.pretraining.continuations import answer_losses, continuation, cuts
from insitu.language.pretraining.pretraining import encoded_blocks, read_documents
from insitu.language.pretraining.recipe import Pretraining
from insitu.language.pretraining.trainer import Probe
from insitu.records import key_of, store_record
from insitu.seed import Seed
from insitu.storage import file_digest
from insitu.training.session import read_metrics, unchecked

__all__ = ["ACCURACY", "KIND", "LOSS", "HeldOut", "continuation_loss", "probe_along", "store_history"]

KIND = "lm pretrain"
# What stands in the rows of a history.
LOSS, ACCURACY = "loss of held-out continuations", "accuracy in context of each set"


@final
@dataclass(frozen=True)
class HeldOut:
    """How a pretraining is evaluated at every snapshot; the same for every start and under both masks.

    Args:
        blocks: How many blocks of held-out text are cut and continued.
        data: Labelled texts, with a template of the same name.
        shots: Demonstrations of a prompt.
        sets: Demonstration sets.
        items: Questions after each of them.
    """

    blocks: int = 128
    data: str = "subj"
    shots: int = 4
    sets: int = 6
    items: int = 50


# Neither the questions nor the cuts may depend on the start.
ROOT = Seed(0)


@torch.no_grad()
def continuation_loss(model: LanguageModel, blocks: Any, attention: Attention, *, batch: int = 16) -> float:
    """The mean loss in nats of a token behind the cut of a held-out block, ``(block, window)``, under a mask."""
    held_out = cuts(ROOT / "held-out", range(len(blocks)), blocks.shape[1]).tolist()
    examples = [continuation(block, cut, attention) for block, cut in zip(blocks, held_out, strict=True)]
    losses: list[Tensor] = []
    for start in range(0, len(examples), batch):
        part = examples[start : start + batch]
        rows = {name: torch.stack([example[name] for example in part]).to(model.device) for name in part[0]}
        losses.append(answer_losses(model.network, rows).double())
    return torch.cat(losses).mean().item()


def probe_along(recipe: Pretraining, text: Path, how: HeldOut) -> Probe:
    """What measures the model of a pretraining at a snapshot, under the mask that it is trained with.

    Args:
        recipe: The pretraining, with a mask.
        text: The held-out text.
        how: How it is evaluated.

    Raises:
        InputError: If the recipe has no mask.
    """
    if recipe.mask is None:
        raise InputError("pretraining history: the recipe has no mask; give one of causal, prefix (--mask).")
    attention = recipe.mask

    @functools.cache
    def questions(model: LanguageModel) -> tuple[Any, Bench]:
        blocks = encoded_blocks(model.tokenizer, read_documents(text), recipe.window, how.blocks)
        corpus, template = load_corpus(how.data), load_template(how.data)
        return blocks, set_up(model, corpus, template, ROOT, shots=how.shots, items=how.items)

    def probe(model: LanguageModel) -> dict[str, Any]:
        blocks, bench = questions(model)
        _, restricted = accuracy_in_context(bench, how.shots, how.sets, attention)
        return {LOSS: continuation_loss(model, blocks, attention), ACCURACY: restricted.tolist()}

    return probe


def store_history(
    folder: Path, model: LanguageModel, recipe: Pretraining, texts: Mapping[str, Path], how: HeldOut
) -> dict[str, Any]:
    """Write the record of a finished pretraining: what it was made of, and what was measured at its snapshots.

    Args:
        folder: The folder of the pretraining.
        model: Its model.
        recipe: What was trained.
        texts: The text, and the held-out one.
        how: How it was evaluated.

    Raises:
        StorageError: If it cannot be written.
    """
    made = {
        "kind": KIND,
        "recipe": dataclasses.asdict(recipe),
        "texts": {name: {"name": path.name, "sha256": file_digest(path)} for name, path in texts.items()},
        "tokeniser": file_digest(folder / "tokenizer.json"),
        "asked": dataclasses.asdict(how),
    }
    measured = {
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "weights": weights_digest(model),
        "rows": [unchecked(row) for row in read_metrics(folder) if LOSS in row],
    }
    return store_record(folder, KIND, key_of(made), {**made, **measured})

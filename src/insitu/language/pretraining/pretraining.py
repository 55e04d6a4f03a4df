"""Pretraining a small language model on natural text: the recipe behind the bundled one.

A byte-level byte-pair encoding is learnt from the text, a Llama network is trained on consecutive blocks of it, in the
order of the text, by the ``Trainer`` of transformers, and a model card is written beside the weights. The rate rises,
stays, and falls over the last fifth of the steps; until there a training does not depend on how long it will be, so one
that goes on from its state may be made longer or shorter.
"""

import copy
import dataclasses
import itertools
import json
import lzma
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from insitu.errors import InputError, require_count
from insitu.language.models.pretrained import LanguageModel, quiet
from insitu.language.pretraining.bits_per_byte import bits_per_byte
from insitu.language.pretraining.model_card import model_card
from insitu.language.pretraining.recipe import SEPARATOR, SNAPSHOTS, STATE, Pretraining
from insitu.language.pretraining.trainer import Probe, run_trainer
from insitu.storage import SEAL, file_digest, locked, seal, write_atomically, writing

__all__ = ["Pretrained", "Pretraining", "encoded_blocks", "learn_tokenizer", "pretrain", "read_documents", "snapshots"]

# How much of the text the vocabulary is learnt from, in characters.
SAMPLE = 10_000_000
TOKENIZER = "tokenizer.json"


@final
@dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained model, and its bits per byte of held-out text where there was one."""

    model: LanguageModel
    bits: float | None


def read_documents(path: Path) -> Iterator[str]:
    """The documents of a UTF-8 text, plain or ``.xz``: what stands between lines ``<|endoftext|>``.

    Raises:
        InputError: If the file cannot be read as text.
    """
    opened = lzma.open if path.suffix == ".xz" else open
    held: list[str] = []
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                if line.strip() == SEPARATOR:
                    yield "".join(held).strip()
                    held = []
                else:
                    held.append(line)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. Give a text file, plain or .xz.") from None
    except (UnicodeDecodeError, lzma.LZMAError, EOFError) as error:
        raise InputError(f"{path} is not UTF-8 text, plain or .xz: {error}.") from None
    if "".join(held).strip():
        yield "".join(held).strip()


def learn_tokenizer(documents: Iterable[str], vocabulary: int, window: int) -> Any:
    """A byte-level byte-pair encoding; every text begins with the separator of documents."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[SEPARATOR], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SEPARATOR} $A", special_tokens=[(SEPARATOR, tokenizer.token_to_id(SEPARATOR))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SEPARATOR,
        eos_token=SEPARATOR,
        model_max_length=window,
        clean_up_tokenization_spaces=False,
    )


def encoded_blocks(tokenizer: Any, documents: Iterable[str], window: int, most: int | None = None) -> np.ndarray:
    """Documents one behind the other as blocks of tokens ``(block, window)``; at most ``most`` blocks."""
    parts: list[np.ndarray] = []
    found = 0
    for group in grouped(documents, 64):
        for ids in tokenizer(list(group), verbose=False).input_ids:
            parts.append(np.array(ids, dtype=np.uint16))
            found += len(ids)
        if most is not None and found >= most * window:
            break
    count = found // window if most is None else min(most, found // window)
    if count == 0:
        raise InputError(f"pretraining: the text has {found} tokens, fewer than one block of {window}.")
    return np.concatenate(parts)[: count * window].reshape(count, window)


def grouped(things: Iterable[str], size: int) -> Iterator[list[str]]:
    held = iter(things)
    while group := list(itertools.islice(held, size)):
        yield group


def pretrain(  # noqa: PLR0913 - what the command takes
    recipe: Pretraining,
    text: Path,
    folder: Path,
    *,
    heldout: Path | None = None,
    resume: bool = False,
    snapshots: int = 10,
    seconds: float = 300.0,
    tell: Callable[[int, float], None] = lambda step, loss: None,
    probe: Probe | None = None,
    device: torch.device | None = None,
) -> "Pretrained":
    """Train a language model and write it into a folder that :func:`load_language_model` reads.

    Beside weights (float16, as small as it goes), tokeniser and model card, the folder holds ``metrics.jsonl``, the
    weights at evenly spaced steps under ``snapshots`` and the last state of the Trainer under ``state``. All of them
    carry digests, and no other process trains in the folder meanwhile.

    Args:
        recipe: What to train.
        text: Natural text, see :func:`read_documents`.
        folder: Where to write.
        heldout: Text to measure bits per byte on.
        resume: Whether to go on from the state in the folder.
        snapshots: At how many steps the weights are kept, the last included.
        seconds: How long to train between two writes of the state.
        tell: Called with the number of finished steps and the loss in nats a token.
        probe: Called with the model at every snapshot; what it returns stands in ``metrics.jsonl``.
        device: Where to train; a GPU if there is one.

    Raises:
        InputError: If the text cannot be used, or the folder holds the state of another recipe or a damaged one.
        OutOfTimeError: If the budget of the process is spent before the last step; the state is stored.
        StorageError: If something cannot be written, or another process trains in the folder.
    """
    require_count("pretraining", "snapshots", snapshots, least=1)
    sample = "" if heldout is None else "\n".join(itertools.islice(read_documents(heldout), 12))
    with locked(folder):
        tokenizer, blocks = prepare(recipe, text, folder, resume)
        network = run_trainer(
            recipe,
            tokenizer,
            blocks,
            folder,
            probe=lambda model: numbers_of(model, sample) | (probe(model) if probe else {}),
            count=snapshots,
            seconds=seconds,
            resume=resume,
            tell=tell,
            device=device,
        )
        return finished(network, tokenizer, recipe, folder, text, heldout, len(blocks))


def finished(
    network: Any, tokenizer: Any, recipe: Pretraining, folder: Path, text: Path, heldout: Path | None, blocks: int
) -> Pretrained:
    """Write the model and its card."""
    model = LanguageModel(folder.name, network.eval().requires_grad_(False), tokenizer)
    save(model, folder)
    whole = None if heldout is None else bits_per_byte(model, "\n".join(read_documents(heldout)))
    about = {"text": text.name, "blocks": blocks, "held-out": heldout.name if heldout else None, "bits": whole}
    write_atomically(folder / "README.md", model_card(model, dataclasses.asdict(recipe), about).encode())
    return Pretrained(model, whole)


def prepare(recipe: Pretraining, text: Path, folder: Path, resume: bool) -> tuple[Any, np.ndarray]:
    """The tokeniser and the blocks of a training, learnt once and kept in the folder."""
    from transformers import AutoTokenizer

    known = folder / "recipe.json"
    own = dataclasses.asdict(recipe) | {"text": text_digest(text)}
    if resume and known.exists():
        require_same(known, own, folder)
    else:
        # Nothing of an earlier training may be taken for a part of this one.
        known.unlink(missing_ok=True)
        shutil.rmtree(folder / STATE, ignore_errors=True)
        sample = itertools.takewhile(CharacterLimit(SAMPLE), read_documents(text))
        with writing(folder):
            learn_tokenizer(sample, recipe.vocabulary, recipe.window).save_pretrained(str(folder))
    # Read from disk the first time too: what is read writes another configuration than what was learnt.
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    blocks = encoded_blocks(tokenizer, read_documents(text), recipe.window, recipe.steps * recipe.batch)
    own["tokenizer"] = file_digest(folder / TOKENIZER)
    write_atomically(known, json.dumps(own, indent=1).encode())
    return tokenizer, blocks


def require_same(known: Path, own: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with another recipe or text, or a tokeniser that changed.

    Raises:
        InputError: If something differs; the message names it.
    """
    try:
        before = dict(json.loads(known.read_text(encoding="utf-8")))
        tokenizer = file_digest(folder / TOKENIZER)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{known} and {TOKENIZER} cannot be read ({error}); train in another folder.") from None
    # The length alone may change: up to the decay nothing depends on it.
    changed = [name for name in own if name != "steps" and before.get(name) != own[name]]
    if changed:
        raise InputError(
            f"{folder} holds a training with another {', '.join(changed)} "
            f"({', '.join(str(before.get(name)) for name in changed)}); resume with the same, or train in another "
            "folder."
        )
    if before.get("tokenizer") != tokenizer:
        raise InputError(f"{folder / TOKENIZER} is damaged: it is not what was learnt; train in another folder.")


def text_digest(text: Path) -> str:
    """The SHA-256 of a text.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return file_digest(text)
    except OSError as error:
        raise InputError(f"cannot read {text}: {error.strerror or error}. Give a text file, plain or .xz.") from None


def numbers_of(model: LanguageModel, sample: str) -> dict[str, float]:
    return {"bits per byte": bits_per_byte(model, sample)} if sample else {}


class CharacterLimit:
    """True until so many characters have been seen."""

    def __init__(self, characters: int) -> None:
        self.left = characters

    def __call__(self, document: str) -> bool:
        """Count a document."""
        self.left -= len(document)
        return self.left > 0


def save(model: LanguageModel, folder: Path) -> None:
    """Weights as float16 and the tokeniser, as transformers reads them."""
    (folder / SEAL).unlink(missing_ok=True)
    with quiet(), writing(folder):
        copy.deepcopy(model.network).half().save_pretrained(str(folder))
        model.tokenizer.save_pretrained(str(folder))
    seal(folder, ("*.safetensors", "*config.json", "tokenizer*"))


def snapshots(folder: Path) -> list[tuple[int, Path]]:
    """The steps at which weights were kept and the folders that hold them, in rising order."""
    found = [(int(path.name.rpartition("-")[2]), path) for path in (folder / SNAPSHOTS).glob("step-*")]
    return sorted(found)

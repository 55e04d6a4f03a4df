"""Pretrained language models: the bundled one, and any causal one that transformers reads."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from insitu.errors import InputError, near_matches

__all__ = ["BUNDLED_MODELS", "LanguageModel", "load_language_model"]

DATA = Path(__file__).parent / "data"
BUNDLED_MODELS = ("stories260K",)


@final
@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model and its tokeniser.

    Args:
        name: What it is called.
        network: The network, a causal model of transformers, without dropout.
        tokenizer: Its tokeniser.
    """

    name: str
    network: Any
    tokenizer: Any

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, after whatever the tokeniser puts at its start."""
        # verbose: the length is judged here, not by a remark on standard error.
        return self.tokenizer(text, verbose=False).input_ids

    @property
    def window(self) -> int:
        """How many tokens it reads at most."""
        return self.network.config.max_position_embeddings

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return self.network.device


def load_language_model(
    name: str | Path, *, device: torch.device | None = None, download: bool = False
) -> LanguageModel:
    """A bundled model by its name, or one from a folder or the hub, in float32 and without dropout.

    float32 because in half precision small gradient steps round to nothing, and a network that does not move
    looks like one that does not depend on order.

    Args:
        name: A bundled name, a folder, or a name on the Hugging Face hub.
        device: Where to put it; the CPU if not given.
        download: Whether to fetch it where it is not on this machine yet.

    Raises:
        InputError: If it cannot be loaded.
    """
    with quiet():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        bundled = name in BUNDLED_MODELS
        place = str(DATA / name if bundled else name)
        local = bundled or not download
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=local)
            network: Any = AutoModelForCausalLM.from_pretrained(place, local_files_only=local, dtype=torch.float32)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(
                f"no language model could be loaded from {str(name)!r}: {reason} Bundled: "
                f"{near_matches(str(name), BUNDLED_MODELS)} Otherwise give a folder with config.json, weights and "
                f"tokeniser{'' if download else ', or allow the download of a hub name'}."
            ) from None
    network = network.to(device or torch.device("cpu")).eval().requires_grad_(False)
    return LanguageModel(str(name), network, tokenizer)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, transformers shows no progress bars and no remarks; afterwards it does as before."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

"""Pretrained language models: the bundled one, and any causal one that transformers reads."""

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from insitu.errors import InputError, near_matches, require_one_of

__all__ = ["BUNDLED_MODELS", "DEFAULT_MODEL", "LanguageModel", "load_language_model"]

DATA = Path(__file__).parent / "data"
BUNDLED_MODELS = ("prose1M", "stories260K")
DEFAULT_MODEL = "prose1M"


PRECISIONS = ("float32", "float64", "bfloat16", "float16")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
# What architectures call the table of absolute positions; those that count from a padding index skip its first rows.
POSITIONS = re.compile(r"(?:^|\.)(?:embed_positions|position_embeddings|position_embedding|positions_embed|wpe)$")
TOWERS = re.compile("vision|visual|audio")
# What configurations call the length of the longest sequence.
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "max_target_positions")


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
        """The tokens of a text, after whatever the tokeniser puts at its start; what it puts at the end is left out."""
        # verbose: the length is judged here, not by a remark on standard error.
        tokens = list(self.tokenizer(text, verbose=False).input_ids)
        end = len(tokens) - len(self.ending)
        return tokens[:end] if tokens[end:] == self.ending else tokens

    def word(self, token: int) -> str:
        """What a token stands for; its number where the tokeniser knows fewer tokens than the network."""
        return str(self.tokenizer.decode([token])) if token < len(self.tokenizer) else f"<{token}>"

    @functools.cached_property
    def ending(self) -> list[int]:
        """What the tokeniser appends to every text, such as an end or a separator."""
        whole = list(self.tokenizer("a").input_ids)
        bare = list(self.tokenizer("a", add_special_tokens=False).input_ids)
        starts = [i for i in range(len(whole) - len(bare) + 1) if bare and whole[i : i + len(bare)] == bare]
        return whole[starts[0] + len(bare) :] if starts else []

    @property
    def config(self) -> Any:
        """The configuration of its text part."""
        return self.network.config.get_text_config(decoder=True)

    def modules(self) -> Iterator[tuple[str, torch.nn.Module]]:
        """The modules of the network by their names, without towers that see or hear."""
        return ((name, module) for name, module in self.network.named_modules() if not TOWERS.search(name))

    @functools.cached_property
    def window(self) -> int:
        """How many tokens it reads at most: what its configuration says, and what its table of positions holds."""
        named = [getattr(self.config, name, None) for name in LENGTHS]
        tables = [
            module.num_embeddings - first_position(module)
            for name, module in self.modules()
            if isinstance(module, torch.nn.Embedding) and POSITIONS.search(name)
        ]
        return min((n for n in (*named, *tables) if isinstance(n, int) and n > 0), default=2**31)

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return self.network.device


def first_position(table: torch.nn.Embedding) -> int:
    """The row of a sequence's first token in a table of positions: behind an offset, or behind the padding's."""
    return int(getattr(table, "offset", 0 if table.padding_idx is None else table.padding_idx + 1))


def load_language_model(
    name: str | Path,
    *,
    device: torch.device | None = None,
    download: bool = False,
    dtype: str = "float32",
    revision: str | None = None,
    spread: bool = False,
) -> LanguageModel:
    """A bundled model by its name, or one from a folder or the hub, without dropout.

    float32 because in half precision small gradient steps round to nothing, and a network that does not move
    looks like one that does not depend on order; fine-tuning refuses anything less.

    Args:
        name: A bundled name, a folder, or a name on the Hugging Face hub.
        device: Where to put it; the CPU if not given.
        download: Whether to fetch it where it is not on this machine yet.
        dtype: The precision of the weights: float32, float64, bfloat16 or float16.
        revision: Which version of a hub model, such as a checkpoint of its pretraining.
        spread: Whether to spread it over all devices there are (``device_map="auto"``).

    Raises:
        InputError: If it cannot be loaded.
    """
    require_one_of("language model", "dtype", dtype, PRECISIONS)
    # Some architectures draw numbers for weights that are then read.
    with quiet(), torch.random.fork_rng(devices=[]):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        bundled = name in BUNDLED_MODELS
        place = str(DATA / name if bundled else name)
        local = bundled or not download
        folder = Path(place)
        if (folder / "config.json").exists() and not any((folder / file).exists() for file in TOKENIZERS):
            raise InputError(
                f"the folder {place} holds no tokeniser (one of {', '.join(TOKENIZERS)}); save it beside the weights "
                "with tokenizer.save_pretrained(folder)."
            )
        source: dict[str, Any] = {
            "local_files_only": local,
            "revision": revision or "main",
            "trust_remote_code": False,
        }
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, **source)
            where = {"device_map": "auto"} if spread else {}
            network: Any = AutoModelForCausalLM.from_pretrained(place, dtype=getattr(torch, dtype), **source, **where)
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            hub = "" if download else ", or allow the download of a hub name (--download)"
            raise InputError(
                f"no language model could be loaded from {str(name)!r}: {reason} Bundled: "
                f"{near_matches(str(name), BUNDLED_MODELS)} Otherwise give a folder with config.json, weights and "
                f"tokeniser{hub}. Where there is no network, fetch the model elsewhere and name its folder."
            ) from None
    placed = network if spread else network.to(device or torch.device("cpu"))
    label = str(name) if bundled or not Path(place).is_dir() else Path(place).resolve().name
    return LanguageModel(label, placed.eval().requires_grad_(False), tokenizer)


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

"""Pretrained language models: bundled ones, fetched ones, and any causal one that transformers reads."""

import contextlib
import functools
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from insitu.errors import InputError, near_matches, require_one_of, require_package
from insitu.language.models.registry import PACKAGED_MODELS, PROVENANCE, missing_model
from insitu.storage import require_intact

__all__ = ["BUNDLED_MODELS", "DEFAULT_MODEL", "LanguageModel", "load_language_model", "model_folder"]

DATA = Path(__file__).parent / "data"
BUNDLED_MODELS = ("prose1M", "stories260K")
# What the command line takes where no model is named.
DEFAULT_MODEL = "smollm2"


PRECISIONS = ("float32", "float64", "bfloat16", "float16")
# Ways of splitting texts, as GGUF files name them, in which every digit stands alone.
DIGITS_APART = ("smollm",)
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
        provenance: What was done to the weights before they came here, such as quantisation; empty if nothing is known.
    """

    name: str
    network: Any
    tokenizer: Any
    provenance: str = ""

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
    """A bundled or fetched model by its name, or one from a folder, a GGUF file or the hub, without dropout.

    float32 because in half precision small gradient steps round to nothing, and a network that does not move
    looks like one that does not depend on order; fine-tuning refuses anything less.

    Args:
        name: A bundled name, a fetched one, a folder, a GGUF file, or a name on the Hugging Face hub.
        device: Where to put it; the CPU if not given.
        download: Whether to fetch it from the hub where it is not on this machine yet.
        dtype: The precision of the weights: float32, float64, bfloat16 or float16.
        revision: Which version of a hub model, such as a checkpoint of its pretraining.
        spread: Whether to spread it over all devices there are (``device_map="auto"``).

    Raises:
        InputError: If it cannot be loaded.
    """
    require_one_of("language model", "dtype", dtype, PRECISIONS)
    place = model_folder(name)
    file = gguf_file(place)
    require_tokenizer(place)
    require_intact(place)
    source: dict[str, Any] = {
        "local_files_only": place.exists() or not download,
        "revision": revision or "main",
        "trust_remote_code": False,
    }
    where = {"device_map": "auto"} if spread else {}
    try:
        tokenizer, network = read_model(place, file, source, {"dtype": getattr(torch, dtype), **where})
    except Exception as error:  # damaged files make transformers, tokenizers and safetensors raise almost anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hub = "" if download else ", or allow the download of a hub name (--download)"
        raise InputError(
            f"no language model could be loaded from {str(name)!r}: {reason} Bundled or fetched: "
            f"{near_matches(str(name), (*BUNDLED_MODELS, *PACKAGED_MODELS))} Otherwise give a folder with config.json, "
            f"weights and tokeniser, or a GGUF file{hub}. Where there is no network, fetch the model elsewhere and "
            "name its folder."
        ) from None
    if dtype == "float64":
        network.set_experts_implementation("eager")  # the grouped kernels know no double precision
    placed = network if spread else network.to(device or torch.device("cpu"))
    known = str(name) in (*BUNDLED_MODELS, *PACKAGED_MODELS) or not place.exists()
    label = str(name) if known else (file or place.resolve()).name
    return LanguageModel(label, placed.eval().requires_grad_(False), tokenizer, provenance(place, file, dtype))


def model_folder(name: str | Path) -> Path:
    """Where a model lies: the folder of a bundled or fetched one, and what is not known by name as it is.

    Raises:
        InputError: If it has to be fetched first.
    """
    if str(name) in BUNDLED_MODELS:
        return DATA / name
    if missing := missing_model(str(name)):
        raise InputError(missing)
    packaged = PACKAGED_MODELS.get(str(name))
    return packaged.folder if packaged else Path(name)


def gguf_file(place: Path) -> Path | None:
    """The GGUF file that a path names or that a folder without a configuration holds, if any.

    Raises:
        InputError: If a folder holds several, or gguf is not installed.
    """
    inside = sorted(place.glob("*.gguf")) if place.is_dir() and not (place / "config.json").exists() else []
    if len(inside) > 1:
        raise InputError(
            f"the folder {place} holds several GGUF files: {', '.join(file.name for file in inside)}; name one of them."
        )
    files = [place] if place.is_file() and place.suffix == ".gguf" else inside
    if files:
        require_package("reading a GGUF file", "gguf", "gguf")
    return files[0] if files else None


def require_tokenizer(place: Path) -> None:
    if (place / "config.json").exists() and not any((place / file).exists() for file in TOKENIZERS):
        raise InputError(
            f"the folder {place} holds no tokeniser (one of {', '.join(TOKENIZERS)}); save it beside the weights "
            "with tokenizer.save_pretrained(folder)."
        )


def read_model(place: Path, file: Path | None, source: dict[str, Any], how: dict[str, Any]) -> tuple[Any, Any]:
    """Tokeniser and network; the weights of a GGUF file are unpacked into plain ones."""
    # Some architectures draw numbers for weights that are then read.
    with quiet(), torch.random.fork_rng(devices=[]):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if file is None:
            name = place.as_posix()
            tokenizer = AutoTokenizer.from_pretrained(name, **source)
            return tokenizer, AutoModelForCausalLM.from_pretrained(name, **source, **how)
        from transformers import GgufConfig

        name, source = str(file.parent), {**source, "gguf_file": file.name}
        unpacked = {**how, "quantization_config": GgufConfig(dequantize=True)}
        # Its progress bar is a bare one, which no setting of transformers hides.
        with contextlib.redirect_stderr(io.StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(name, **source)
            return split_digits(tokenizer, file), AutoModelForCausalLM.from_pretrained(name, **source, **unpacked)


def split_digits(tokenizer: Any, file: Path) -> Any:
    """The tokeniser of a GGUF file with every digit apart, where the file says so; transformers passes over that."""
    from gguf import GGUFReader

    said = GGUFReader(file).get_field("tokenizer.ggml.pre")
    if said is not None and said.contents() in DIGITS_APART:
        from tokenizers import pre_tokenizers

        inner = tokenizer.backend_tokenizer
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), inner.pre_tokenizer]
        )
    return tokenizer


def provenance(place: Path, file: Path | None, dtype: str) -> str:
    """What was done to the weights: as the folder of a fetched model says, or as the types in a GGUF file do."""
    if file is not None:
        from gguf import GGUFReader

        kinds = sorted({tensor.tensor_type.name for tensor in GGUFReader(file).tensors})
        return f"GGUF weights ({', '.join(kinds)}), computed in {dtype}"
    if (place / PROVENANCE).is_file():
        weights = json.loads((place / PROVENANCE).read_text(encoding="utf-8"))["weights"]
        return f"{weights}, computed in {dtype}"
    return ""


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

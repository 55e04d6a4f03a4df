"""Networks on disk: weights as safetensors, the architecture as JSON beside them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from insitu.errors import InputError
from insitu.learners.expression import learner, parse
from insitu.models.decoder import Decoder, DecoderArchitecture
from insitu.models.mask import Causal, Mask, Prefix, SelfVisible
from insitu.models.network import Architecture, AttentionNetwork
from insitu.models.transformer import Transformer, TransformerArchitecture
from insitu.predictor import Predictor

__all__ = ["load_network", "named_predictor", "save_network"]

WEIGHTS = "model.safetensors"
CONFIGURATION = "config.json"
Network = AttentionNetwork | Decoder | Transformer
"""Any network of this package: answers, answers by layer, and the states of its queries by layer."""
KINDS: dict[str, Any] = {
    "AttentionNetwork": (AttentionNetwork, Architecture),
    "Decoder": (Decoder, DecoderArchitecture),
    "Transformer": (Transformer, TransformerArchitecture),
}
MASKS = {kind.__name__: kind for kind in (Prefix, Causal, SelfVisible)}


def save_network(network: Network, folder: Path | str) -> None:
    """Write ``model.safetensors`` and ``config.json`` into a folder, made where it does not exist."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = network.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, folder / WEIGHTS)
    values = {f.name: getattr(network.architecture, f.name) for f in dataclasses.fields(network.architecture)}
    told = {k: mask_to_json(v) if isinstance(v, Mask) else v for k, v in values.items()}
    dtype = str(next(iter(state.values())).dtype).removeprefix("torch.")
    configuration = {"kind": type(network).__name__, **told, "dtype": dtype}
    (folder / CONFIGURATION).write_text(json.dumps(configuration, indent=2) + "\n")


def load_network(folder: Path | str) -> Network:
    """Read a network that :func:`save_network` wrote.

    Raises:
        InputError: If the folder holds no such network, or its two files do not fit.
    """
    folder = Path(folder)
    try:
        configuration = json.loads((folder / CONFIGURATION).read_text())
        dtype = getattr(torch, configuration.pop("dtype"))
        kind, shape = KINDS[configuration.pop("kind")]
        given = {f.name: configuration.pop(f.name) for f in dataclasses.fields(shape)}
        if configuration:
            raise ValueError(f"{CONFIGURATION} has an unknown key {min(configuration)!r}")
        given = {k: mask_from_json(v) if k == "mask" else v for k, v in given.items()}
        network: Network = kind(shape(**given)).to(dtype)
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{str(folder)!r} is not a checkpoint: expected a folder with {CONFIGURATION} and {WEIGHTS} as "
            f"save_network writes them; {type(error).__name__}: {error}"
        ) from None
    return network


def named_predictor(text: str) -> Predictor:
    """The learner that prints as ``text``, or the network that ``Checkpoint("folder")`` names.

    Raises:
        InputError: If the text names neither, or the checkpoint cannot be read.
    """
    expression = parse(text)
    if expression.name != "Checkpoint":
        return learner(text)
    arguments = (*expression.positional, *expression.keywords.values())
    if len(arguments) != 1 or not isinstance(arguments[0], str):
        raise InputError(f"{text!r} does not name a checkpoint; expected Checkpoint('folder').")
    return load_network(arguments[0])


def mask_to_json(mask: Mask) -> dict[str, Any]:
    fields = dataclasses.fields(mask)  # type: ignore[arg-type]
    values = {f.name: getattr(mask, f.name) for f in fields}
    inner = {k: mask_to_json(v) if isinstance(v, Mask) else v for k, v in values.items()}
    return {"kind": type(mask).__name__, **inner}


def mask_from_json(given: dict[str, Any]) -> Mask:
    inner = {k: mask_from_json(v) if isinstance(v, dict) else v for k, v in given.items() if k != "kind"}
    kind: Any = MASKS[given["kind"]]
    return kind(**inner)

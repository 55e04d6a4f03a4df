"""Networks on disk: weights as safetensors, the architecture as JSON beside them."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from insitu.errors import InputError
from insitu.kinds import kinds_below
from insitu.learners.expression import learner, parse
from insitu.models.mask import Mask
from insitu.models.network import Network, network_kinds
from insitu.predictor import Predictor
from insitu.records import content_digest
from insitu.storage import write_atomically

__all__ = ["load_network", "named_predictor", "save_network"]

WEIGHTS = "model.safetensors"
CONFIGURATION = "config.json"
# The keys of the configuration that hold the digest of the weights, and that of its other entries.
DIGEST, OWN = "sha256", "digest"


def save_network(network: Network, folder: Path | str) -> None:
    """Write ``model.safetensors`` and ``config.json`` into a folder, made where it does not exist.

    Each file is whole or not there. The configuration holds the SHA-256 of the weights and of itself, so that damage is
    noticed.

    Raises:
        StorageError: If a file cannot be written.
    """
    folder = Path(folder)
    state = network.state_dict()
    weights = save({k: v.contiguous() for k, v in state.items()})
    values = {f.name: getattr(network.architecture, f.name) for f in dataclasses.fields(network.architecture)}
    shape = {k: mask_to_json(v) if isinstance(v, Mask) else v for k, v in values.items()}
    dtype = str(next(iter(state.values())).dtype).removeprefix("torch.")
    configuration = {"kind": type(network).__name__, **shape, "dtype": dtype, DIGEST: sha256(weights)}
    configuration[OWN] = content_digest(configuration)
    write_atomically(folder / WEIGHTS, weights)
    write_atomically(folder / CONFIGURATION, (json.dumps(configuration, indent=2) + "\n").encode())


def load_network(folder: Path | str) -> Network:
    """Read a network that :func:`save_network` wrote.

    Raises:
        InputError: If the folder holds no such network, or its two files do not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{str(folder)!r} is not a checkpoint: there is no such folder. Expected one that "
            f"save_network or insitu train wrote, with {CONFIGURATION} and {WEIGHTS}."
        )
    try:
        configuration = json.loads((folder / CONFIGURATION).read_text(encoding="utf-8"))
        weights = (folder / WEIGHTS).read_bytes()
        if configuration.get(OWN) not in (None, content_digest(configuration)):
            raise ValueError(f"{CONFIGURATION} does not match its own digest; if you changed it, remove {OWN!r}")
        configuration.pop(OWN, None)
        digest = configuration.pop(DIGEST, None)
        if digest is not None and digest != sha256(weights):
            raise ValueError(f"{WEIGHTS} does not match the digest in {CONFIGURATION}: one of them is damaged")
        dtype = getattr(torch, configuration.pop("dtype"))
        kind = network_kinds()[configuration.pop("kind")]
        network = kind(architecture_from_json(kind.architecture_class, configuration)).to(dtype)
        network.load_state_dict(load(weights))
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{str(folder)!r} is not a checkpoint: expected a folder with {CONFIGURATION} and {WEIGHTS} as "
            f"save_network writes them; {type(error).__name__}: {error}"
        ) from None
    return network


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def architecture_from_json(kind: type[Any], values: dict[str, Any]) -> Any:
    """An architecture from its fields, all of which must be there, and no others."""
    names = {f.name for f in dataclasses.fields(kind)}
    if values.keys() != names:
        raise ValueError(f"{CONFIGURATION} has an unknown or missing key {min(values.keys() ^ names)!r}")
    return kind(**{k: mask_from_json(v) if k == "mask" else v for k, v in values.items()})


def named_predictor(text: str) -> Predictor:
    """The learner that prints as ``text``, or the network that ``Checkpoint("folder")`` names.

    Raises:
        InputError: If the text names neither, or the checkpoint cannot be read.
    """
    expression = parse(text)
    if expression.name != "Checkpoint":
        return learner(text)
    match expression.positional, expression.keywords:
        case ((str(folder),), {}) if not expression.keywords:
            return load_network(folder)
        case (), {"folder": str(folder)} if len(expression.keywords) == 1:
            return load_network(folder)
    raise InputError(f"{text!r} does not name a checkpoint; expected Checkpoint('folder').")


def mask_to_json(mask: Mask) -> dict[str, Any]:
    fields = dataclasses.fields(mask)  # type: ignore[arg-type]
    values = {f.name: getattr(mask, f.name) for f in fields}
    inner = {k: mask_to_json(v) if isinstance(v, Mask) else v for k, v in values.items()}
    return {"kind": type(mask).__name__, **inner}


def mask_from_json(values: dict[str, Any]) -> Mask:
    inner = {k: mask_from_json(v) if isinstance(v, dict) else v for k, v in values.items() if k != "kind"}
    kind: Any = kinds_below(Mask)[values["kind"]]
    return kind(**inner)

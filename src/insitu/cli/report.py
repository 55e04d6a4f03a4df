"""``insitu report``: rebuild the report of a folder from its records."""

from pathlib import Path
from typing import Annotated

import typer

from insitu.cli.options import Quiet
from insitu.cli.terminal import console, print_json, warn
from insitu.errors import InputError

__all__ = ["report", "write_report"]


def report(
    options: Quiet,
    folder: Annotated[Path, typer.Argument(help="A folder with records that a command of insitu wrote.")],
) -> None:
    """Rebuild the report and its figures from the records alone, running nothing.

    Example: insitu report results/quick
    """
    from insitu.storage import require_folder

    if not folder.exists():
        raise InputError(f"{folder} does not exist; expected a folder that a command wrote with --out.")
    require_folder(folder)
    pages = write_report(folder)
    if options.as_json:
        print_json({"report": str(pages[0]), "pages": [str(page) for page in pages]})
    else:
        typer.echo(f"The report is {' and '.join(map(str, pages))}.")


def write_report(folder: Path) -> tuple[Path, ...]:
    """Draw the figures and write the pages; damaged records are left out and named."""
    with console.status("drawing figures"):
        from insitu.report import build_pages

        built = build_pages(folder)
    for damage in built.damaged:
        warn(f"{damage.path} was left out of the report: {damage.reason}.")
    return built.pages

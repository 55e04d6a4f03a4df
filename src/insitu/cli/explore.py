"""``insitu explore``: a page on which theory, networks and learners follow what one moves."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from insitu.cli.options import Quiet

__all__ = ["explore"]


def explore(
    options: Quiet,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the page is served; 0 for any free port.")] = 8427,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in a browser.")] = False,
    model: Annotated[
        str, typer.Option(help="A checkpoint, a learner or a language model for the second tab.", show_default="none")
    ] = "",
    record: Annotated[
        Path | None, typer.Option(help="A record of `insitu identify --json` to show on the second tab.")
    ] = None,
) -> None:
    """Open a page of exact curves, a constructed network and learners that follow what one moves.

    Example: insitu explore
    Example: insitu explore --port 8500 --no-browser
    Example: insitu explore --record identified.json
    """
    from insitu.explorer.record import read_record
    from insitu.explorer.server import free_port, require_page, serve

    require_page()
    shown = None if record is None else read_record(record.read_text(encoding="utf-8"))
    port = free_port(port)
    typer.echo(f"The page is http://127.0.0.1:{port}/ until Ctrl-C.")
    # Ctrl-C is how it ends.
    with contextlib.suppress(KeyboardInterrupt):
        serve(port, show=not no_browser, model=model, record=shown)

"""``insitu claims``: every claim, or those that match."""

from typing import Annotated

import typer

from insitu.cli.options import Quiet
from insitu.cli.terminal import print_json
from insitu.errors import InputError

__all__ = ["claims"]


def claims(
    options: Quiet,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID | WORD ...]", help="Papers, claims, or words to search for; all claims by default."
        ),
    ] = None,
) -> None:
    """List claims: paper, statement, place in the paper, rule and cost.

    Example: insitu claims ding2024 "figure 2"
    """
    from insitu.papers.index import claim_rows, matching

    rows = matching(claim_rows(), words or [])
    if not rows:
        raise InputError(f"no claim matches {' '.join(words or [])!r}. List all with: insitu claims")
    if options.as_json:
        print_json(rows)
        return
    for row in rows:
        cost = f"quick {row['quick_seconds']:g} s, full {row['full_hours']:g} h"
        typer.echo(f"{row['claim']}  ({row['source']}; {cost})\n    {row['statement']}\n")

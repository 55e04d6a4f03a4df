"""Tables that become cards where the screen is narrow, and verdicts as signs and words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from insitu.claims.claim import Verdict
from insitu.report.markup import Html, element, join
from insitu.report.numbers import NONE, number

__all__ = ["SIGNS", "badge", "cells", "code", "stacked_table", "value"]

SIGNS = {Verdict.HOLDS: "✓", Verdict.FAILS: "✕", Verdict.UNDECIDED: "○", Verdict.ERROR: "!"}


def stacked_table(columns: Sequence[str], groups: Iterable[Html], class_: str) -> Html:
    """A table whose rows become cards where the screen is narrow.

    The roles say again what the elements mean, since browsers forget it when a style sheet lays a table out anew.
    """
    titles = [element("th", title, scope="col", role="columnheader") for title in columns]
    head = element("thead", element("tr", *titles, role="row"), role="rowgroup")
    return element("table", head, *groups, class_=f"stack {class_}", role="table")


def cells(columns: Sequence[str], contents: Sequence[str]) -> list[Html]:
    """Cells that know the titles of their columns."""
    pairs = zip(columns, contents, strict=True)
    none = {"class_": "none"}
    return [
        element("td", element("div", text), data_label=title, role="cell", **(none if text == NONE else {}))
        for title, text in pairs
    ]


def badge(verdict: Verdict) -> Html:
    """A verdict as a sign and a word, readable without colour."""
    sign = element("span", SIGNS[verdict], aria_hidden="true", class_="sign")
    return element("span", sign, str(verdict), class_=f"verdict {verdict}")


def value(check: Mapping[str, Any], *, with_quantity: bool) -> Html:
    """A measured value, with all its digits for machines."""
    if not check:
        return Html(NONE)
    text = element("data", number(check["value"]), value=str(check["value"]))
    return join(text, element("span", check["quantity"], class_="small")) if with_quantity else text


def code(text: str) -> Html:
    """An identifier below the words that it belongs to."""
    return element("code", text, class_="id")

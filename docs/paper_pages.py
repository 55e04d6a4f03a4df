"""The claims of a paper as Markdown: what is stated, how it is measured, what decides, and what came out."""

import dataclasses
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from insitu.claims import Claim, Paper

__all__ = ["Results", "claims_of", "read_results"]

# The checks of every claim by scale and seed, such as ``("quick", 0)``.
Results = dict[tuple[str, int], dict[str, list[dict[str, Any]]]]


def read_results(root: Path) -> Results:
    """What is stored: the last whole run at quick scale, and the records in the folders of ``results``."""
    found: Results = {}
    for path in sorted((root / "results").glob("*/seed-*.json")):
        for record in json.loads(path.read_text(encoding="utf-8")):
            found.setdefault((record["scale"], record["seed"]), {})[record["claim"]] = record["checks"]
    stored = json.loads((root / "docs" / "verdicts.json").read_text(encoding="utf-8"))
    found.setdefault(("quick", stored["seed"]), {}).update(stored["checks"])
    # Quick scale first.
    return dict(sorted(found.items(), key=lambda item: (item[0][0] != "quick", item[0][1])))


def claims_of(paper: Paper, results: Results) -> str:
    """The claims of a paper, one section each."""
    return "\n".join(line for claim in paper.claims for line in lines_of_claim(claim, results)).strip()


def lines_of_claim(claim: Claim, results: Results) -> Iterator[str]:
    """One claim, line by line."""
    yield from (f"### {claim.id}", "", claim.statement, "")
    yield f"- **Where:** {claim.source}."
    yield f"- **Measured:** {measurement(claim)}"
    if claim.reduced:
        yield f"- **Smaller than the paper at quick scale:** {claim.reduced}"
    yield f"- **Quick scale:** {settings(claim.quick)}."
    yield f"- **Full scale:** {changed(claim)}."
    yield f"- **Cost:** quick about {claim.quick_seconds:g} s on one CPU core, full about {claim.full_hours:g} h."
    yield f"- **Version of the measurement:** {claim.version}."
    yield ""
    yield from table(claim, {place: checks[claim.id] for place, checks in results.items() if claim.id in checks})
    yield ""


def measurement(claim: Claim) -> str:
    """What the measurement says of itself, in one sentence."""
    function = getattr(claim.measure, "func", claim.measure)
    return (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")


def table(claim: Claim, results: dict[tuple[str, int], list[dict[str, Any]]]) -> Iterator[str]:
    """The rules of a claim, with a column for every stored result."""
    columns = ["quantity", "bound", "the paper prints", *(f"{scale}, seed {seed}" for scale, seed in results)]
    yield row(columns)
    yield "|---" * len(columns) + "|"
    checks = [{check["quantity"]: check for check in found} for found in results.values()]
    for rule in claim.rules:
        yield row([rule.quantity, rule.bound, rule.printed, *(outcome(found.get(rule.quantity)) for found in checks)])


def row(cells: list[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def outcome(check: dict[str, Any] | None) -> str:
    """A verdict with its value, and the interval where the value is not exact."""
    if check is None:
        return ""
    value, low, high = (float(check[name]) for name in ("value", "low", "high"))
    return f"{check['verdict']}: {value:.2g}" + ("" if low == high else f" [{low:.2g}, {high:.2g}]")


def flat(setting: Any) -> dict[str, str]:
    """The numbers of a setting by name, those of inner settings included."""
    values = dict(walk(setting, ()))
    last = [path[-1] for path in values]
    # A name that occurs twice is told by what holds it.
    return {".".join(path[-2:] if last.count(path[-1]) > 1 else path[-1:]): numbers(v) for path, v in values.items()}


def walk(setting: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values of a setting with their paths."""
    for field in dataclasses.fields(setting):
        value, here = getattr(setting, field.name), (*path, field.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, here)
        else:
            yield here, value


def numbers(value: Any) -> str:
    """A number, or several; of many only the first and the last."""
    if not isinstance(value, tuple):
        return f"{value:g}" if isinstance(value, float) else str(value)
    shown = [numbers(v) for v in value]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:2], "...", shown[-1]])


def settings(setting: Any) -> str:
    """A setting as words."""
    return "; ".join(f"{name} {value}" for name, value in flat(setting).items())


def changed(claim: Claim) -> str:
    """What full scale changes of quick scale."""
    quick, full = flat(claim.quick), flat(claim.full)
    other = [f"{name} {value}" for name, value in full.items() if quick[name] != value]
    return f"the same but {'; '.join(other)}" if other else "the same"

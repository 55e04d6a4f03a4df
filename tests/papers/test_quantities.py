"""A quantity is one value that rule and measurement share, so that a slip is an unknown name and not a missing key."""

import ast
from pathlib import Path

import pytest

import insitu.papers

PAPERS = Path(insitu.papers.__file__).parent
MODULES = {path.relative_to(PAPERS).as_posix(): path for path in sorted(PAPERS.rglob("*.py"))}


def spelled_out(source: str) -> list[str]:
    """The quantities that rules give as text of their own."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    rules = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Rule"]
    quantities = [q for rule in rules for q in (*rule.args[:1], *quantity_words(rule))]
    return [ast.unparse(q) for q in quantities if isinstance(q, ast.Constant | ast.JoinedStr | ast.BinOp)]


def quantity_words(rule: ast.Call) -> list[ast.expr]:
    """A quantity given by its keyword."""
    return [word.value for word in rule.keywords if word.arg == "quantity"]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_rule_repeats_the_text_of_a_measurement(name):
    assert spelled_out(MODULES[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("rule", ['Rule("gap", low=0.0)', 'Rule(f"gap, n={n}")', 'Rule(quantity="gap")'])
def test_text_in_a_rule_is_noticed(rule):
    assert len(spelled_out(rule)) == 1
    assert spelled_out("Rule(GAP, low=0.0, printed='1'); Rule(gap_at(40), high=1.0)") == []

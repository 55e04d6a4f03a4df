"""Learners written as they print: parsed from text, never evaluated."""

import ast
import dataclasses

from insitu.errors import InputError, near_matches, shortened
from insitu.kinds import kinds_below
from insitu.learners.learner import Learner

__all__ = ["Expression", "learner", "parse"]


@dataclasses.dataclass(frozen=True)
class Expression:
    """A name called with literal arguments: numbers, strings and nested tuples of them."""

    name: str
    positional: tuple[object, ...]
    keywords: dict[str, object]


def parse(text: str) -> Expression:
    """Read ``Name(literal, keyword=literal)`` without evaluating anything.

    Raises:
        InputError: If the text is anything else.

    Example:
        >>> parse("Ridge(penalty=0.25)")
        Expression(name='Ridge', positional=(), keywords={'penalty': 0.25})
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("not a call")
        positional = tuple(ast.literal_eval(argument) for argument in call.args)
        keywords = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        if len(keywords) < len(call.keywords):
            raise ValueError("a keyword twice")
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise InputError(
            f"{shortened(text)!r} is not a learner: expected a name called with numbers, as in 'Ridge(penalty=0.25)' "
            "or 'GradientDescent(steps=5, rate=0.5)'."
        ) from None
    return Expression(call.func.id, positional, keywords)


def learner(text: str) -> Learner:
    """The learner that prints as ``text``.

    Raises:
        InputError: If no learner has this name, or it does not take these parameters.

    Example:
        >>> learner("OnlineDescent(rate=0.1)")
        OnlineDescent(rate=0.1, decay=0.0, passes=1)
        >>> learner("Rigde(penalty=1.0)")
        Traceback (most recent call last):
            ...
        insitu.errors.InputError: no learner is called 'Rigde'; did you mean Ridge?
    """
    expression = parse(text)
    kinds = kinds_below(Learner)
    if expression.name not in kinds:
        near = near_matches(expression.name, kinds)
        raise InputError(f"no learner is called {shortened(expression.name)!r}; {near}")
    kind = kinds[expression.name]
    try:
        return kind(*expression.positional, **expression.keywords)
    except TypeError:
        fields = ", ".join(f.name for f in dataclasses.fields(kind))
        takes = f"its parameters are: {fields}" if fields else "it has no parameters"
        raise InputError(f"{shortened(text)!r} does not fit {expression.name}; {takes}.") from None

"""Learners written as they print: parsed from text, never evaluated."""

import ast
import dataclasses

from insitu.errors import InputError, near_matches, shortened
from insitu.learners.bayes import FinitePool, NoiseMixture
from insitu.learners.causal import CausalDescent
from insitu.learners.conjugate import ConjugateGradient
from insitu.learners.descent import GradientDescent, Momentum, Nesterov
from insitu.learners.kernels import GaussianProcess
from insitu.learners.learner import Learner
from insitu.learners.least_squares import LeastSquares, RecursiveLeastSquares, Ridge
from insitu.learners.logistic import LogisticRegression
from insitu.learners.neighbours import KernelSmoother, NearestNeighbours, SoftmaxSmoother
from insitu.learners.newton import Newton
from insitu.learners.online import Kaczmarz, OnlineDescent
from insitu.learners.spectral import GradientDescentPlus, PrincipalComponents
from insitu.learners.trivial import Mean, Zero

__all__ = ["LEARNERS", "Expression", "learner", "parse"]

KINDS: list[type[Learner]] = [
    Zero,
    Mean,
    NearestNeighbours,
    KernelSmoother,
    SoftmaxSmoother,
    GaussianProcess,
    LeastSquares,
    Ridge,
    RecursiveLeastSquares,
    PrincipalComponents,
    GradientDescent,
    GradientDescentPlus,
    Momentum,
    Nesterov,
    ConjugateGradient,
    OnlineDescent,
    Kaczmarz,
    CausalDescent,
    Newton,
    FinitePool,
    NoiseMixture,
    LogisticRegression,
]
LEARNERS: dict[str, type[Learner]] = {kind.__name__: kind for kind in KINDS}


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
    if expression.name not in LEARNERS:
        near = near_matches(expression.name, LEARNERS)
        raise InputError(f"no learner is called {shortened(expression.name)!r}; {near}")
    kind = LEARNERS[expression.name]
    try:
        return kind(*expression.positional, **expression.keywords)
    except TypeError:
        fields = ", ".join(f.name for f in dataclasses.fields(kind))  # type: ignore[arg-type]
        takes = f"its parameters are: {fields}" if fields else "it has no parameters"
        raise InputError(f"{shortened(text)!r} does not fit {expression.name}; {takes}.") from None

"""Which learner a model's answers are: candidates fitted, then scored on held-out prompts, and no forced choice."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from insitu.identification import sentences
from insitu.identification.arrangement import arranged, out_of_order
from insitu.identification.evidence import Answered, gather
from insitu.identification.fitting import Fit
from insitu.identification.result import Identification, Name
from insitu.identification.search import ALL_NOISE, TELLING, Search
from insitu.predictor import Predictor
from insitu.processes import one_thread
from insitu.seed import Seed

__all__ = ["identify"]

# What the best candidate leaves, from which on another order of the answers is looked for.
UNEXPLAINED = 0.12


def identify(
    answered: Sequence[Answered],
    *,
    candidates: Sequence[Predictor] = (),
    seed: Seed | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> Identification:
    """Name the learner behind a model's answers.

    Args:
        answered: Prompts with the model's answers, one entry for each context length.
        candidates: Further candidates, which are not fitted (a ``FinitePool`` with its pool, another network).
        seed: Where bootstrap samples are drawn.
        tell: Is told what is being tried, for a progress line.

    Raises:
        InputError: If there are too few prompts, or the answers cannot be compared (see :class:`Answered`).

    Example:
        >>> from insitu.learners import Ridge
        >>> from insitu.tasks import Gaussian, LinearRegression
        >>> prompt = LinearRegression(Gaussian(3)).sample(Seed(0), batch=64, points=8, queries=4).prompt
        >>> found = identify([Answered(prompt, Ridge(penalty=0.25).predict(prompt))])
        >>> found.verdict, found.best.learner
        ('indistinguishable', Ridge(penalty=0.25))
    """
    seed = seed or Seed(0)
    inside, outside = ([p for a in answered if (p := a.part(inside=where))] for where in (True, False))
    with one_thread():
        if not inside or not outside:
            return replace(in_any_order(answered, candidates, seed, tell), answered=tuple(answered))
        found = in_any_order(inside, candidates, seed, tell)
        shift = replace(in_any_order(outside, candidates, seed, tell), answered=tuple(outside))
    reason = f"In distribution: {found.reason} Under shift: {shift.reason}"
    return replace(found, reason=reason, shift=shift, properties=shift.properties, answered=tuple(inside))


def in_any_order(
    answered: Sequence[Answered], candidates: Sequence[Predictor], seed: Seed, tell: Callable[[str], None]
) -> "Identification":
    """The identification of answers, put in order first if this is what they need."""
    found = identified(answered, candidates, seed, tell)
    if found.mixture or (found.best.score.left < UNEXPLAINED and found.noise <= ALL_NOISE):
        return found
    return put_in_order(answered, found, candidates, seed, tell)


def identified(
    answered: Sequence[Answered], candidates: Sequence[Predictor], seed: Seed, tell: Callable[[str], None]
) -> Identification:
    """The identification of answers as they are."""
    search = Search(gather(answered), seed, tell)
    search.remarks += sentences.precision_remarks([str(a.precision).removeprefix("torch.") for a in answered])
    if search.noise.share(search.whole) > ALL_NOISE:
        return search.only_noise()
    for given in candidates:
        search.add(Fit(given, 0, math.inf))
    for attempt in (search.try_families, search.try_larger, search.try_mapped, search.try_mixtures):
        if not search.open():
            attempt()
    return search.conclude()


def put_in_order(
    answered: Sequence[Answered],
    found: Identification,
    candidates: Sequence[Predictor],
    seed: Seed,
    tell: Callable[[str], None],
) -> Identification:
    """The identification of the answers in an order in which they make sense, if there is one."""
    order = out_of_order(answered)
    if order is None:
        return found
    better = identified(arranged(answered, order), candidates, seed, tell)
    # The first order was told by a learner that is only about the right one.
    again = out_of_order(answered, better.best.learner) if order.what == "rows" else None
    if again is not None:
        better = identified(arranged(answered, again), candidates, seed, tell)
    # Copies of a prompt that are in another order look like noise, of which nothing is left.
    most = UNEXPLAINED if found.noise > ALL_NOISE else TELLING * found.best.score.left
    if better.best.score.left > most or better.noise > ALL_NOISE:
        return found
    remark = sentences.arrangement_remark(order.what)
    verdict: Name = "closest" if better.verdict == "indistinguishable" else better.verdict
    return replace(better, verdict=verdict, reason=f"Put in order: {better.reason}", remarks=(remark, *better.remarks))

"""What an identification says, in words."""

from collections.abc import Sequence

from insitu.identification.evidence import Evidence
from insitu.identification.interval import Interval
from insitu.identification.scoring import Noise, Score

__all__ = [
    "all_noise",
    "arrangement_remark",
    "expression",
    "mapped",
    "mixture",
    "nearest",
    "nothing",
    "open_question",
    "percent",
    "precision_remarks",
    "same",
    "times",
    "unseen",
]

LONG = 90


def percent(share: float) -> str:
    """A share in words.

    Example:
        >>> percent(0.1234), percent(2e-9)
        ('12.3 %', 'less than 0.001 %')
    """
    return f"{100 * share:.3g} %" if share >= 1e-5 else "less than 0.001 %"


def expression(learner: object) -> str:
    """A learner's expression, with a large matrix cut short; of a text that is one, the same."""
    text = learner if isinstance(learner, str) else repr(learner)
    return text if len(text) <= LONG else text[: LONG - 3] + "..."


def beside(noise: float) -> str:
    """That noise was taken off, where it was."""
    return f", beside noise ({percent(noise)} of them, as repeated prompts show)" if noise else ""


def same(best: Score, agreeing: Sequence[Score], noise: float) -> str:
    """*Indistinguishable*, as a sentence."""
    name = expression(best.learner)
    if noise:
        most = max(max(d.most for d in best.departures), 0.0)
        shown = (
            f"they are shown to differ by less than {percent(max(best.most, 0.0))} in the mean and {percent(most)} on "
            f"every diagnostic{beside(noise)}."
        )
    else:
        shown = "only rounding is left on every diagnostic."
    text = f"The answers are indistinguishable from {name}: {shown}"
    if not agreeing:
        return text
    equal = [expression(s.learner) for s in agreeing if s.size <= best.size]
    if equal:
        text += f" On these prompts {listed(equal)} cannot be told from it."
    larger = [expression(s.learner) for s in agreeing if s.size > best.size]
    if larger:
        text += f" With more free numbers no more is explained by {listed(larger)}."
    return text


def listed(names: Sequence[str]) -> str:
    """Names in a row.

    Example:
        >>> listed(["Mean()"]), listed(["a", "b", "c"])
        ('Mean()', 'a, b and c')
    """
    return " and ".join([part for part in (", ".join(names[:-1]), names[-1]) if part])


def open_question(best: Score, others: Sequence[Score], noise: float, hidden: float) -> str:
    """*Closest*, where nothing speaks against the candidate but not enough for it."""
    most = max(best.departures, key=lambda d: d.most)
    text = f"The answers are not told apart from {expression(best.learner)}"
    if others:
        text += f", nor from {', '.join(expression(s.learner) for s in others)}"
    doubt = (
        f"up to {percent(most.most)} of them on {most.name!r} (n = {most.points})"
        if most.most > hidden
        else (f"up to {percent(hidden)} of them")
    )
    return f"{text}: nothing departs{beside(noise)}, but {doubt} could be something else. More prompts would tell."


def nearest(best: Score, noise: float) -> str:
    """*Closest*, where something departs."""
    nearly = "nearly those of" if best.left < 0.01 else "closest to"
    return (
        f"The answers are {nearly} {expression(best.learner)}, which leaves {percent(best.left)} of them "
        f"unexplained{beside(noise)}; {departs(best)}"
    )


def nothing(best: Score, noise: float) -> str:
    """*None*, as a sentence."""
    return (
        f"None of these learners: the nearest, {expression(best.learner)}, leaves {percent(best.left)} of the answers "
        f"unexplained{beside(noise)}; {departs(best)}"
    )


def departs(best: Score) -> str:
    """Where a candidate departs most."""
    worst = best.worst
    return f"it departs most on {worst.name!r} (n = {worst.points}), where the distance is {worst.distance:.2g}."


def all_noise(noise: float) -> str:
    """That there is nothing but noise."""
    return (
        "The answers are noise: answers to the same prompt differ as much as those to different prompts "
        f"({percent(noise)} of their square is noise), so that nothing is left that a learner could explain. Check "
        "whether the model samples its answers; if it does, give the mean of several."
    )


def mapped(best: Score, factor: float, offset: Sequence[float], noise: float) -> str:
    """*Closest*, where the answers are a learner's after a factor and an offset."""
    sign = " Some conventions store the label's coordinate with the opposite sign (von Oswald et al., 2023)."
    return (
        f"The answers are {times(factor, offset)} those of {expression(best.learner)}{beside(noise)}: "
        f"{'with' if any(offset) else 'after'} this, {left(best)}." + sign * (abs(factor + 1) < 1e-3)
    )


def left(best: Score) -> str:
    """What a mapped candidate leaves."""
    return "only rounding is left" if best.exact else f"{percent(best.left)} of them are left unexplained"


def times(factor: float, offset: Sequence[float]) -> str:
    """A factor and an offset in words."""
    words = "minus" if abs(factor + 1) < 1e-3 else f"{factor:.4g} times"
    if any(offset):
        plus = " and ".join(f"{value:.4g}" for value in offset)
        return f"an offset of {plus} plus {words}" if abs(factor - 1) >= 1e-3 else f"an offset of {plus} plus"
    return words


def mixture(
    parts: Sequence[tuple[object, float, float, float]],
    way: str,
    switches: bool,
    by_length: dict[int, float],
    noise: float,
) -> str:
    """*Mixture*, as a sentence."""
    names = [expression(learner) for learner, *_ in parts]
    if way == "by prompt":
        shares = ", ".join(f"{percent(w)} by {name}" for name, (_, w, _, _) in zip(names, parts, strict=True))
        return f"The answers switch between learners from prompt to prompt: {shares}{beside(noise)}."
    if way == "by length":
        curve = ", ".join(f"{weight:.3g} at n = {points}" for points, weight in sorted(by_length.items()))
        what = "switch between" if switches else "are a mixture of"
        return (
            f"The answers {what} {' and '.join(names)} by context length{beside(noise)}: the weight of {names[0]} is "
            f"{curve}."
        )
    weights = [str(Interval("", w, a, b)).strip() for _, w, a, b in parts]
    terms = " and ".join(f"{name} with weight {weight}" for name, weight in zip(names, weights, strict=True))
    return f"The answers are a mixture of {terms}{beside(noise)}: together they explain what no single learner does."


def arrangement_remark(what: str) -> str:
    """That answers are out of order."""
    where = "to other prompts (the rows are in another order)" if what == "rows" else "to other queries of their prompt"
    return (
        f"the answers fit a learner only if they belong {where}: they were put in order before they were identified. "
        "Check how they were stored."
    )


def precision_remarks(precisions: Sequence[str]) -> list[str]:
    """That answers have fewer digits than their file."""
    names = {"float16": "half precision (float16)", "bfloat16": "half precision (bfloat16)"}
    return [
        f"every answer is a number of {names[kind]}, whatever it is stored in: its rounding is taken for no departure."
        for kind in dict.fromkeys(precisions)
        if kind in names
    ]


def unseen(whole: Evidence, noise: Noise) -> list[str]:
    """What these prompts cannot show."""
    found = []
    prompts = [block.view.prompt for block in whole.blocks]
    if all(p.points > p.dim for p in prompts) and all(bool((b.view.spectrum[1]).all()) for b in whole.blocks):
        found.append(
            "every context determines all weights: how the model fills in what examples leave open is not seen."
        )
    if all(len(b.copies.unique()) == len(b.copies) for b in whole.blocks):
        found.append("no prompt is repeated: noise of the answers counts as unexplained.")
    return found

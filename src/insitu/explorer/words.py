"""Numbers in the sentences of panels."""

from insitu.report.numbers import number

__all__ = ["counted", "listed", "percent"]

SPACE = "\N{NO-BREAK SPACE}"
# What rounding may leave.
NOTHING = 1e-12


def percent(share: float) -> str:
    """A share as people say it.

    Example:
        >>> [percent(share).replace("\\xa0", " ") for share in (0.4035, 0.00032, 2e-7, 3.2, 4e7, 1e-30)]
        ['40 %', '0.032 %', '2 × 10⁻⁷', '320 %', '4 × 10⁷ times', 'nothing']
    """
    if share < NOTHING:
        return "nothing"
    if share < 1e-5:
        return number(share, 3)
    return f"{number(share, 3)} times" if share >= 100 else f"{number(100 * share, 2)}{SPACE}%"


def counted(count: int, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> counted(1, "layer"), counted(2, "layer")
        ('1 layer', '2 layers')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(words: list[str]) -> str:
    """Words as a list in a sentence.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))

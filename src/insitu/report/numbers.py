"""Numbers as people read them: few digits, powers of ten, real minus signs."""

import math
import re

__all__ = ["NONE", "bound_text", "interval_text", "number", "power", "tidy"]

NONE = "–"
DIGITS = 4
MOST_DIGITS = 9
MINUS, TIMES, SPACE = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{NO-BREAK SPACE}"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
PLAIN_FROM, PLAIN_BELOW = 1e-3, 1e5
NUMERAL = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)")
RELATIONS = {"<=": "≤", ">=": "≥"}


def number(value: float | str | None, digits: int = DIGITS) -> str:
    """A number in words for a table; a dash for none. Records hold numbers that are not finite as text.

    Example:
        >>> [number(v) for v in (5.1234e-13, -0.25, 120000, "-inf", None)]
        ['5.12\xa0×\xa010⁻¹³', '−0.25', '1.2\xa0×\xa010⁵', '−∞', '–']
    """
    if value is None:
        return NONE
    value = float(value)
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0 or PLAIN_FROM <= abs(value) < PLAIN_BELOW:
        text = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
        return text.replace("-", MINUS)
    # One digit less than without a power of ten, which takes the room.
    mantissa, _, exponent = f"{value:.{digits - 2}e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    scale = power(int(exponent))
    if mantissa in ("1", "-1"):
        return scale if mantissa == "1" else f"{MINUS}{scale}"
    return f"{mantissa}{SPACE}{TIMES}{SPACE}{scale}".replace("-", MINUS)


def power(exponent: int) -> str:
    """A power of ten.

    Example:
        >>> power(-3)
        '10⁻³'
    """
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def interval_text(low: float | str | None, high: float | str | None) -> str:
    """An interval, with as many digits as tell its ends apart; a dash for none, or where rounding alone does.

    Example:
        >>> interval_text(1.000012, 1.000015), interval_text(0.3, 0.1 + 0.2)
        ('[1.000012, 1.000015]', '–')
    """
    if low is None or high is None or number(low, MOST_DIGITS) == number(high, MOST_DIGITS):
        return NONE
    enough = next((d for d in range(DIGITS, MOST_DIGITS) if number(low, d) != number(high, d)), MOST_DIGITS)
    digits = enough if enough == DIGITS else enough + 1
    return f"[{number(low, digits)}, {number(high, digits)}]"


def bound_text(bound: str) -> str:
    """The bound of a rule with the signs of print.

    Example:
        >>> bound_text("<= 1e-10"), bound_text("in [-1, 0.5]")
        ('≤\xa010⁻¹⁰', 'in [−1, 0.5]')
    """
    for ascii_sign, sign in RELATIONS.items():
        bound = bound.replace(ascii_sign, sign)
    text = NUMERAL.sub(lambda match: number(match[0], MOST_DIGITS), bound)
    return re.sub("([≤≥=]) ", rf"\1{SPACE}", text)


def tidy(value: object) -> str:
    """A value of a setting as text.

    Example:
        >>> tidy([1, 2.50, None]), tidy({"rate": 1e-6})
        ('1, 2.5, none', 'rate 10⁻⁶')
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value, MOST_DIGITS)
    if isinstance(value, dict):
        return ", ".join(f"{k} {tidy(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(tidy, value))
    return str(value)

"""How numbers are written for a person, in one place: two tables show one number alike."""

import math

NONE = "-"


def format_number(value: float | None, sign: str = "", places: int = 3) -> str:
    """Three decimals, one for large numbers, a dash for none; the sign "+" writes the plus of a change.

    >>> [format_number(value) for value in (0.12345, 123.456, None)], format_number(0.5, "+")
    (['0.123', '123.5', '-'], '+0.500')
    """
    if value is None or math.isnan(value):
        return NONE
    return f"{value:{sign}.1f}" if abs(value) >= 100 else f"{value:{sign}.{places}f}"


def format_digits(value: float | None, places: int, none: str = NONE) -> str:
    """So many decimals whatever the size, as a published table has them.

    >>> format_digits(123.456, 2), format_digits(None, 2, none="")
    ('123.46', '')
    """
    return none if value is None or math.isnan(value) else f"{value:.{places}f}"


def format_interval(value: float | None, low: float | None, high: float | None, sign: str = "") -> str:
    """A number with its interval in brackets, where it has one.

    >>> format_interval(0.5, 0.4, 0.62), format_interval(0.5, None, None), format_interval(0.1, 0, 0.2, "+")
    ('0.500 [0.400, 0.620]', '0.500', '+0.100 [+0.000, +0.200]')
    """
    return in_brackets(format_number(value, sign), format_number(low, sign), format_number(high, sign))


def in_brackets(value: str, low: str, high: str) -> str:
    """The same for numbers that are written already."""
    return value if NONE in (value, low, high) else f"{value} [{low}, {high}]"

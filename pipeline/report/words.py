"""Numbers and counts as people read them."""

from collections.abc import Sequence

_MINUS = "\N{MINUS SIGN}"
_NARROW = "\N{NARROW NO-BREAK SPACE}"


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """Write a number with so many digits after the point; nothing for None."""
    if value is None:
        return ""
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")  # a zero has no sign
    return text.replace("-", _MINUS)


def percent(share: float) -> str:
    """Write a share: a whole number of percent, or that it is less, or more, than any."""
    if 0 < share < 0.005:
        return f"under 1{_NARROW}%"
    if 0.995 <= share < 1:
        return f"over 99{_NARROW}%"
    return f"{share * 100:.0f}{_NARROW}%"


def images(count: int) -> str:
    """Write a number of images."""
    return "1 image" if count == 1 else f"{count:,} images"


def joined(parts: Sequence[str]) -> str:
    """Join parts of a sentence: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def plain(text: str) -> str:
    """Write text as `metrics.parquet` has it: names of files are bytes, and need not be text."""
    return text.encode("utf-8", "backslashreplace").decode()

"""Names of derivatives: whatever a shard calls its images, they stay inside the output.

And names as text, whatever bytes they are; and as part of an output, whoever gives them.
"""

import hashlib
import re

_LONGEST_PART = 200  # bytes; file systems take 255, and extensions are added
_LONGEST = 1000

# Control characters, backslashes, the colon of a drive letter, and halves of surrogate pairs, which
# no file system takes but for those that stand for bytes.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udc7f\udd00-\udfff]|(?<=^[A-Za-z]):")


def safe_path(name: str) -> str:
    """Make a relative path, with forward slashes, of a name that a shard gives an image.

    A name that can be used is left as it is. Of others, what is unsafe is written as %XX: control
    characters, backslashes, the colon of a drive letter, what is no text and no bytes either, and
    the parts "", "." and "..". A part
    that is too long for file systems is cut, and ends in a digest of the whole.
    """
    parts = [_safe_part(part) for part in name.split("/")]
    path = "/".join(parts)
    if len(_bytes(path)) <= _LONGEST:
        return path
    return _cut("/".join(parts[-1:]), name)


def is_confined(path: str) -> bool:
    """Tell whether a relative path, with forward slashes, stays in the folder it is joined to."""
    return not {"", ".", ".."} & set(path.split("/")) and "\0" not in path


def _safe_part(part: str) -> str:
    if part in ("", ".", ".."):
        return "%2E" * len(part) or "%2F"
    safe = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part)
    return safe if len(_bytes(safe)) <= _LONGEST_PART else _cut(safe, part)


def _cut(part: str, whole: str) -> str:
    """Shorten a part, keeping its extension and what tells it from others."""
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    stem, _, extension = part.rpartition(".")
    ending = f"~{digest}" + (f".{extension}" if stem and len(_bytes(extension)) <= 16 else "")
    room = _LONGEST_PART - len(ending)
    return _bytes(stem or part)[:room].decode("utf-8", "ignore") + ending


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# Of XML 1.0: what is not in its production Char.
_NO_TEXT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_text(value: object) -> str:
    """Write a value so that XML, JSON and tag files can hold it: names of files are any bytes."""
    return _NO_TEXT.sub(lambda found: _escaped(found[0]), str(value))


def _escaped(character: str) -> str:
    code = ord(character)
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code  # as `surrogateescape` has it
    return f"\\x{byte:02x}" if byte < 0x100 else f"\\u{code:04x}"


# What a terminal obeys or a reader is deceived by: control characters of C0 and C1, marks that turn
# the direction of text (Unicode 15, UAX 9), separators of lines, and what is no text at all.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Write text so that a terminal shows it and obeys nothing in it."""
    return _UNPRINTABLE.sub(lambda found: _escaped(found[0]), text)

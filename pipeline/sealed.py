"""Objects in JSON that know their own SHA-256, as files of the ledger are."""

import hashlib
import json
from typing import Any

import orjson

as_json = json.JSONEncoder(allow_nan=False).encode  # in ASCII


def parsed(data: bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        return orjson.loads(data)  # in a third of the time
    except ValueError:  # orjson takes no name that is no text, which JSON can hold
        return json.loads(data)


# Between what a file of the ledger says and the SHA-256 of all that stands before this.
_SEAL = b', "sha256": "'


def sealed(text: str) -> str:
    """Add its own SHA-256 to an object in JSON, so that a change of one bit can be told."""
    held = text.removesuffix("}").encode()
    return f'{held.decode()}{_SEAL.decode()}{hashlib.sha256(held).hexdigest()}"}}'


def unsealed(data: bytes) -> dict[str, Any]:
    """Read an object in JSON, and hold it to its SHA-256 if it has one, as what was written before
    there were any has not.

    Raises:
        ValueError: it is none, or was changed.
    """
    found = parsed(data)
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    sha256 = found.pop("sha256", None)
    if sha256 is not None:
        now = hashlib.sha256(data.rpartition(_SEAL)[0]).hexdigest()
        if now != sha256:
            raise ValueError(f"its SHA-256 is {now}, not {sha256}")
    return found

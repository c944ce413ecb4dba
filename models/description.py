"""The contract of a SavedModel, put together from what is said of it, and where each line is from.

What is said on the command line comes before what a contract says, and that before what the
signature tells: types, names, layout, size, and the colour spaces that follow from the number of
channels. Nothing is guessed. What the signature of a model without a contract cannot tell must be
said, and the error lists the choices; a few fields have a default that is right for most models,
and is shown as such.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from models.contract import CONTRACT_FILE, PAIRS, Contract, ContractError, fields_from_json
from models.signature import IMAGE_DTYPES, Signature, bind, pick, read_signatures, require_named

# What is said of a field on the command line is --FIELD, but for these.
_FLAGS = {"multiple": "size_multiple", "output": "output_kind"}


def flag(field: str) -> str:
    """Give the command-line flag that says a field of a contract."""
    return f"--{_FLAGS.get(field, field)}"


def _pair(number: Callable[[str], Any]) -> Callable[[str], tuple]:
    def parse(text: str) -> tuple:
        first, second = text.strip("[] ").split(",")
        return number(first), number(second)

    return parse


def _fraction(text: str) -> float:
    return float(Fraction(text.strip().replace(" ", "")))


# What a signature never tells, and most models have as the contract has it by default.
_ASSUMED = ("output", "multiple", "margin", "mask_fill")

# How what is said as text is read, and what is to be said.
_SAID: dict[str, tuple[Callable[[str], Any], str]] = {
    "input_range": (_pair(_fraction), "LOW,HIGH, such as 0,1 or -1,1 or 0,255"),
    "output_range": (_pair(_fraction), "LOW,HIGH, such as 0,1 or -1,1 or 0,255"),
    "mask_values": (_pair(_fraction), "THERE,MISSING, such as 0,1"),
    "mask_fill": (_fraction, "a number"),
    "size": (_pair(int), "HEIGHT,WIDTH, such as 256,256"),
}


def parse_said(said: Mapping[str, Any]) -> dict[str, Any]:
    """Read what was said of a contract's fields; what is None was not said.

    Raises:
        ContractError: text that is not what a field takes.
    """
    result = {}
    for field, value in said.items():
        if isinstance(value, str) and field in _SAID:
            parse, expected = _SAID[field]
            try:
                value = parse(value)
            except (ValueError, ZeroDivisionError) as error:
                raise ContractError(f"{flag(field)} takes {expected}, not {value!r}") from error
        if value is not None:
            result[field] = value
    return result


@dataclass(frozen=True)
class Description:
    """A contract, and where each of its fields is from.

    Attributes:
        contract: of the model.
        origins: by field: command line, contract file, assets.extra, signature or default.
        assumed: fields of a model without a contract that nobody said and no signature tells.
    """

    contract: Contract
    origins: Mapping[str, str]
    assumed: tuple[str, ...]


def describe(
    path: str | Path,
    said: Mapping[str, Any] | None = None,
    contract_file: str | None = None,
    name: str | None = None,
) -> Description:
    """Put together the contract of the SavedModel in the folder `path`.

    Args:
        path: the folder of the SavedModel.
        said: fields of the contract that are said, as values or as text; None is not said.
        contract_file: a contract to use in place of the one inside.
        name: what to call a model that has no name in a contract; its folder's if None.

    Raises:
        ContractError: the file or a field is not sound, something must be said, or the signature
            contradicts it.
    """
    path = Path(path)
    known = parse_said(said or {})
    origins = dict.fromkeys(known, "command line")
    stored, where = _stored(path, contract_file)
    for field, value in stored.items():
        if field not in known:
            known[field], origins[field] = value, where
    signatures = read_signatures(path)
    for field, value in _told(path, signatures, known):
        if value is not _UNTOLD and field not in known:
            known[field], origins[field] = value, "signature"
    if "name" not in known:
        known["name"], origins["name"] = name or path.resolve().name, "name of the model"
    if where == "":
        signature = pick(signatures, known.get("signature", "serving_default"), path)
        if missing := list(_ambiguous(signature, known)):
            raise ContractError(
                f"{path} has no contract, and its signature does not tell all: {signature}. Say "
                "also:\n" + "\n".join(f"  {line}" for line in missing) + "\nor name a contract "
                "file with --contract (docs/models.md)"
            )
    for one in fields(Contract):
        origins.setdefault(one.name, "default")
    try:
        contract = Contract(**known)
    except TypeError as error:
        raise ContractError(f"{where or path}: {error}") from error
    bind(path, contract, signatures)
    assumed = [field for field in _ASSUMED if where == "" and origins[field] == "default"]
    if contract.mask_input is None:
        assumed = [field for field in assumed if field != "mask_fill"]
    if contract.predicts_chroma:  # which is seen whole, without tiles
        assumed = [field for field in assumed if field != "margin"]
    ordered = {one.name: origins[one.name] for one in fields(Contract)}
    return Description(contract, ordered, tuple(assumed))


def _stored(path: Path, contract_file: str | None) -> tuple[dict[str, Any], str]:
    """Read the fields of a contract file, or of the contract inside, if there is one."""
    source = Path(contract_file) if contract_file else path / CONTRACT_FILE
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if contract_file is None and isinstance(error, FileNotFoundError):
            return {}, ""
        reason = getattr(error, "strerror", None) or error
        raise ContractError(
            f"no contract for the SavedModel {path}: cannot read {source} ({reason})"
        ) from error
    stored = fields_from_json(text, str(source))
    where = f"contract file {contract_file}" if contract_file else CONTRACT_FILE
    return stored, where


# None says something, of a size.
_UNTOLD: Any = object()


def _told(
    path: Path, signatures: Mapping[str, Signature], known: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Give what the signature tells, field by field; _UNTOLD where it does not.

    What is given here is in `known` when the next field is asked for.
    """
    if "signature" not in known and len(signatures) == 1:
        yield "signature", next(iter(signatures))
    signature = pick(signatures, known.get("signature", "serving_default"), path)
    for field in ("image_input", "mask_input", "image_output"):
        if known.get(field) is not None:
            tensors = signature.outputs if field == "image_output" else signature.inputs
            require_named(path, field, known[field], tensors)
    # A contract may say null, for the only one.
    inputs = set(signature.inputs) - {known.get("mask_input")}
    taken_by = known.get("image_input") or (next(iter(inputs)) if len(inputs) == 1 else _UNTOLD)
    yield "image_input", taken_by
    only = len(signature.outputs) == 1
    given_by = known.get("image_output") or (next(iter(signature.outputs)) if only else _UNTOLD)
    yield "image_output", given_by
    image, output = signature.inputs.get(taken_by), signature.outputs.get(given_by)
    if output is not None and output.dtype == "uint8":
        yield "output_range", (0, 255)
    if image is None:
        return
    yield "dtype", image.dtype if image.dtype in IMAGE_DTYPES else _UNTOLD
    if image.dtype == "uint8":
        yield "input_range", (0, 255)
    shapes = [image.shape, output.shape if output else None]
    yield "layout", next(filter(None, map(_layout, shapes)), _UNTOLD)
    layout = known.get("layout")
    yield "size", _size(shapes[0], layout)
    taken, given = (_channels(shape, layout) for shape in shapes)
    yield "output_space", {1: "gray", 2: "ab", 3: "RGB"}.get(given or 0, _UNTOLD)
    # One channel is L or gray where chroma comes out of it; else only gray is run.
    spaces = {first for first, second in PAIRS if second == known.get("output_space")}
    spaces &= {1: {"gray", "L"}, 3: {"RGB"}}.get(taken or 0, set())
    yield "input_space", next(iter(spaces)) if len(spaces) == 1 else _UNTOLD


def _layout(shape: tuple[int | None, ...] | None) -> str | None:
    """Tell the layout where only one of the two places can hold channels."""
    if shape is None or len(shape) != 4:
        return None
    first, last = (side in (1, 2, 3) for side in (shape[1], shape[3]))
    if first == last:
        return None
    return "NCHW" if first else "NHWC"


def _channels(shape: tuple[int | None, ...] | None, layout: str | None) -> int | None:
    if shape is None or len(shape) != 4 or layout is None:
        return None
    return shape[1 if layout == "NCHW" else 3]


def _size(shape: tuple[int | None, ...] | None, layout: str | None) -> tuple[int, int] | None:
    if shape is None or len(shape) != 4 or layout is None:
        return _UNTOLD
    height, width = shape[2:] if layout == "NCHW" else shape[1:3]
    return None if height is None or width is None else (height, width)


def _ambiguous(signature: Signature, known: Mapping[str, Any]) -> Iterator[str]:
    """Give a line for everything that must be said of a model without a contract."""

    def line(field: str, choices: str) -> str:
        return f"{flag(field)}={choices}"

    inputs = ", ".join(sorted(signature.inputs))
    if "image_input" not in known and (len(signature.inputs) != 2 or "mask_input" in known):
        yield line("image_input", f"NAME: which input is the image, of {inputs}")
    if "mask_input" not in known and len(signature.inputs) > 1:
        yield line("mask_input", f"NAME: which input is the mask of missing pixels, of {inputs}")
    if "mask_values" not in known and len(signature.inputs) > 1:
        yield line("mask_values", "THERE,MISSING: 0,1 where 1 is missing, or 1,0 where 0 is")
    if "image_output" not in known:
        names = ", ".join(sorted(signature.outputs))
        yield line("image_output", f"NAME: which output is the image, of {names}")
    if "image_input" in known and "layout" not in known:
        yield line("layout", "NHWC or NCHW: whether channels come last or first")
    if "image_input" in known and "layout" in known and "input_space" not in known:
        yield line("input_space", "RGB, gray or L (CIE L*)")
    if "image_output" in known and "layout" in known and "output_space" not in known:
        yield line("output_space", "RGB, gray or ab (CIE a*b*)")
    if "input_range" not in known:
        lightness = known.get("input_space") == "L" or known.get("output_space") == "ab"
        what = " (of L*: 0 and 100)" if lightness else ""
        yield line("input_range", f"LOW,HIGH: black and white{what}, such as 0,1 or -1,1 or 0,255")
    if "output_range" not in known and known.get("output") != "residual":
        if known.get("output_space") == "ab":
            meaning = "what stands for a* and b* of -128 and 128, such as -128,128 or -1,1"
        else:
            meaning = "black and white, such as 0,1 or -1,1 or 0,255"
        yield line("output_range", f"LOW,HIGH: {meaning}")

"""What a SavedModel takes and gives: its contract, stored inside it as JSON."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

# A SavedModel's folder for files that are not TensorFlow's own.
CONTRACT_FILE = "assets.extra/heliograph.json"
FORMAT = 2
# Format 1 knew no layout, type, mask, or names of tensors; what it lacks is as it was then.
FORMATS = (1, 2)

Space = Literal["RGB", "gray", "L", "ab"]
Output = Literal["image", "residual"]
Layout = Literal["NHWC", "NCHW"]
Dtype = Literal["float32", "float16", "uint8"]

CHANNELS: dict[str, int] = {"RGB": 3, "gray": 1, "L": 1, "ab": 2}
# Colour spaces of inputs and outputs, in the pairs that we run.
PAIRS = (
    ("RGB", "RGB"),
    ("RGB", "gray"),
    ("gray", "RGB"),
    ("gray", "gray"),
    ("gray", "ab"),
    ("L", "ab"),
)


class ContractError(ValueError):
    """A contract, or a SavedModel's signature, that says something we cannot run."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The promise of one SavedModel, as tensors [N, H, W, C] or [N, C, H, W].

    Attributes:
        name: what the model is called in logs and reports.
        input_space: colour space of the input: RGB or gray (sRGB-encoded), or L (CIE L*).
        output_space: RGB, gray, or ab (CIE a*b*, joined to the L* of the input).
        input_range: value of black and of white (of L* 0 and 100 for L) in the input.
        output_range: the same for the output; for ab, the values that stand for -128 and 128.
        output: "image", or "residual": what to add to the input, in units of `input_range`.
        keep_luminance: whether only the chroma of an RGB output is taken, and joined to the
            master's own luminance at full resolution, as that of an ab output is.
        layout: NHWC or NCHW, of images and masks, in and out.
        dtype: of the input image: float32, float16, or uint8 (rounded and clipped).
        size: height and width the model insists on; None takes any size.
        multiple: height and width must be multiples of this.
        margin: receptive margin in pixels: how far from an edge of its input an output pixel
            must be not to see that edge.
        image_input: name of the input that takes the image; None for the only one.
        mask_input: name of the input that takes the mask of missing pixels, [N, H, W, 1] or
            [N, H, W]; None for a model without.
        mask_values: value in the mask of a pixel that is there, and of one that is missing.
        mask_fill: value that missing pixels have in the image, in units of `input_range`; None
            leaves them as they are.
        image_output: name of the output that is the image; None for the only one.
        signature: key of the serving signature.
        shortest_side: in pixels, at which a model of chroma without a `size` is run.
    """

    name: str
    input_space: Space = "RGB"
    output_space: Space = "RGB"
    input_range: tuple[float, float] = (0.0, 1.0)
    output_range: tuple[float, float] = (0.0, 1.0)
    output: Output = "image"
    keep_luminance: bool = False
    layout: Layout = "NHWC"
    dtype: Dtype = "float32"
    size: tuple[int, int] | None = None
    multiple: int = 1
    margin: int = 0
    image_input: str | None = None
    mask_input: str | None = None
    mask_values: tuple[float, float] = (0.0, 1.0)
    mask_fill: float | None = None
    image_output: str | None = None
    signature: str = "serving_default"
    shortest_side: int = 256

    def __post_init__(self) -> None:
        for field, (holds, expected) in _FIELDS.items():
            if not holds(getattr(self, field)):
                raise ContractError(
                    f"{self.name}: contract field {field!r} must be {expected}, "
                    f"not {getattr(self, field)!r}"
                )
        if (self.input_space, self.output_space) not in PAIRS:
            raise ContractError(
                f"{self.name}: {self.input_space} to {self.output_space} is not a combination we "
                f"run: {', '.join(' to '.join(pair) for pair in PAIRS)}"
            )
        if self.output == "residual" and self.input_space != self.output_space:
            raise ContractError(
                f"{self.name}: a residual has its input's colour space, not "
                f"{self.output_space} for {self.input_space}"
            )
        if self.keep_luminance and (self.output_space != "RGB" or self.output == "residual"):
            raise ContractError(
                f"{self.name}: keep_luminance is for models that give RGB images, not "
                f"{self.output_space} {self.output}s"
            )
        if self.size is not None and any(side % self.multiple for side in self.size):
            raise ContractError(
                f"{self.name}: the size {self.size[0]} x {self.size[1]} is no multiple of "
                f"{self.multiple}"
            )
        if self.mask_input is not None and self.predicts_chroma:
            raise ContractError(
                f"{self.name}: a model that predicts chroma cannot take a mask: it sees the image "
                "at a size of its own"
            )
        if self.mask_input is not None and self.mask_input == self.image_input:
            raise ContractError(
                f"{self.name}: image_input and mask_input cannot both be {self.mask_input!r}"
            )

    @property
    def predicts_chroma(self) -> bool:
        """Whether the result is joined to the full-resolution luminance of the master."""
        return self.output_space == "ab" or self.keep_luminance

    @property
    def colorizes(self) -> bool:
        """Whether a gray image becomes one in colour."""
        return self.input_space != "RGB" and self.output_space != "gray"

    def to_json(self) -> str:
        """Write the contract as it is stored in `assets.extra/heliograph.json`."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "Contract":
        """Read a contract.

        Args:
            text: the JSON.
            where: the file it comes from, for messages.

        Raises:
            ContractError: not JSON, a field missing, unknown or out of range.
        """
        try:
            return cls(**fields_from_json(text, where))
        except TypeError as error:
            raise ContractError(f"{where}: {error}") from error


def fields_from_json(text: str | bytes, where: str) -> dict[str, Any]:
    """Read the fields that a contract states; see `Contract.from_json`."""
    try:
        fields: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise ContractError(f"{where} is not JSON: {error}") from error
    if not isinstance(fields, dict) or fields.pop("format", None) not in FORMATS:
        raise ContractError(f"{where} is not a contract of format {' or '.join(map(str, FORMATS))}")
    known = {field.name for field in dataclasses.fields(Contract)}
    if unknown := sorted(set(fields) - known):
        raise ContractError(
            f"{where} has unknown fields {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))


def _is_range(value: Any) -> bool:
    return _is_pair(value) and value[0] < value[1]


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_count(n, 1) for n in value)


def _is_name(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value != "")


_A_RANGE = (_is_range, "two numbers, low then high")
_A_NAME = (_is_name, "null or a name")

# What each field may be, by a function and in words.
_FIELDS: dict[str, tuple[Any, str]] = {
    "name": (lambda value: isinstance(value, str) and value != "", "a name"),
    "input_space": (lambda value: value in ("RGB", "gray", "L"), "RGB, gray or L"),
    "output_space": (lambda value: value in ("RGB", "gray", "ab"), "RGB, gray or ab"),
    "input_range": _A_RANGE,
    "output_range": _A_RANGE,
    "output": (lambda value: value in ("image", "residual"), "image or residual"),
    "keep_luminance": (lambda value: isinstance(value, bool), "true or false"),
    "layout": (lambda value: value in ("NHWC", "NCHW"), "NHWC or NCHW"),
    "dtype": (
        lambda value: value in ("float32", "float16", "uint8"),
        "float32, float16 or uint8",
    ),
    "size": (lambda value: value is None or _is_size(value), "null or [height, width]"),
    "multiple": (lambda value: _is_count(value, 1), "a whole number from 1"),
    "margin": (lambda value: _is_count(value, 0), "a whole number from 0"),
    "image_input": _A_NAME,
    "mask_input": _A_NAME,
    "mask_values": (
        lambda value: _is_pair(value) and value[0] != value[1],
        "two different numbers: of a pixel that is there, and of one that is missing",
    ),
    "mask_fill": (lambda value: value is None or _is_number(value), "null or a number"),
    "image_output": _A_NAME,
    "shortest_side": (lambda value: _is_count(value, 1), "a whole number from 1"),
    "signature": (lambda value: isinstance(value, str) and value != "", "a name"),
}

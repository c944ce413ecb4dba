"""What a SavedModel takes and gives: its contract, stored inside it as JSON."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

# A SavedModel's folder for files that are not TensorFlow's own.
CONTRACT_FILE = "assets.extra/heliograph.json"
FORMAT = 1

Space = Literal["RGB", "gray", "L", "ab"]
Output = Literal["image", "residual"]

CHANNELS: dict[str, int] = {"RGB": 3, "gray": 1, "L": 1, "ab": 2}


class ContractError(ValueError):
    """A contract, or a SavedModel's signature, that says something we cannot run."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The promise of one SavedModel, as float32 tensors [N, H, W, C].

    Attributes:
        name: what the model is called in logs and reports.
        input_space: colour space of the input: RGB or gray (sRGB-encoded), or L (CIE L*).
        output_space: RGB, gray, or ab (CIE a*b*, joined to the L* of the input).
        input_range: value of black and of white (of L* 0 and 100 for L) in the input.
        output_range: the same for the output; for ab, the values that stand for -128 and 128.
        output: "image", or "residual": what to add to the input, in units of `input_range`.
        size: height and width the model insists on; None takes any size.
        multiple: height and width must be multiples of this.
        margin: receptive margin in pixels: how far from an edge of its input an output pixel
            must be not to see that edge.
        signature: key of the serving signature.
        shortest_side: in pixels, at which a model of chroma without a `size` is run.
    """

    name: str
    input_space: Space = "RGB"
    output_space: Space = "RGB"
    input_range: tuple[float, float] = (0.0, 1.0)
    output_range: tuple[float, float] = (0.0, 1.0)
    output: Output = "image"
    size: tuple[int, int] | None = None
    multiple: int = 1
    margin: int = 0
    signature: str = "serving_default"
    shortest_side: int = 256

    def __post_init__(self) -> None:
        self._require(self.input_space in ("RGB", "gray", "L"), "input_space", "RGB, gray or L")
        self._require(self.output_space in CHANNELS, "output_space", "RGB, gray, L or ab")
        self._require(self.output in ("image", "residual"), "output", "image or residual")
        self._require(_is_range(self.input_range), "input_range", "two numbers, low then high")
        self._require(_is_range(self.output_range), "output_range", "two numbers, low then high")
        self._require(_is_count(self.multiple, 1), "multiple", "a whole number from 1")
        self._require(_is_count(self.margin, 0), "margin", "a whole number from 0")
        self._require(_is_count(self.shortest_side, 1), "shortest_side", "a whole number from 1")
        self._require(
            self.size is None or (len(self.size) == 2 and all(_is_count(n, 1) for n in self.size)),
            "size",
            "null or [height, width]",
        )
        if (self.output_space == "ab") != (self.input_space == "L"):
            raise ContractError(
                f"{self.name}: {self.input_space} to {self.output_space} is not a combination we "
                "run: models take L and give ab, or take and give RGB or gray"
            )
        if self.output == "residual" and self.input_space != self.output_space:
            raise ContractError(
                f"{self.name}: a residual has its input's colour space, not "
                f"{self.output_space} for {self.input_space}"
            )

    def _require(self, holds: bool, field: str, expected: str) -> None:
        if not holds:
            raise ContractError(
                f"{self.name}: contract field {field!r} must be {expected}, "
                f"not {getattr(self, field)!r}"
            )

    @property
    def predicts_chroma(self) -> bool:
        """Whether the result is joined to the full-resolution luminance of the master."""
        return self.output_space == "ab"

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
            fields: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise ContractError(f"{where} is not JSON: {error}") from error
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
            raise ContractError(f"{where} is not a contract of format {FORMAT}")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ContractError(
                f"{where} has unknown fields {', '.join(unknown)}; "
                f"known: {', '.join(sorted(known))}"
            )
        for name in ("input_range", "output_range", "size"):
            if isinstance(fields.get(name), list):
                fields[name] = tuple(fields[name])
        try:
            return cls(**fields)
        except TypeError as error:
            raise ContractError(f"{where}: {error}") from error


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(end, int | float) for end in value)
        and value[0] < value[1]
    )


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least

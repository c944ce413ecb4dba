"""What a SavedModel says of itself: its signatures, and which of their tensors a contract means."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import saved_model_proto
from models.contract import CHANNELS, Contract, ContractError

# tensorflow/core/framework/types.proto
_DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    19: "float16",
}
IMAGE_DTYPES = ("float32", "float16", "uint8")
MASK_DTYPES = (*IMAGE_DTYPES, "bool", "int32")

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Tensor:
    """An input or output: its type, and its shape with None for what is free; None if unknown."""

    dtype: str
    shape: Shape | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of unknown shape"
        return f"{self.dtype} ({', '.join(map(str, self.shape))})"

    def takes(self, shape: Shape) -> bool:
        """Say whether it takes all tensors of a shape, alone if not in stacks."""
        if self.shape is None:
            return True
        if len(shape) != len(self.shape) or self.shape[0] not in (None, 1):
            return False
        pairs = zip(self.shape[1:], shape[1:], strict=True)
        return all(own is None or own == side for own, side in pairs)

    def may_give(self, shape: Shape) -> bool:
        """Say whether it could give tensors of a shape."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            own is None or side is None or own == side
            for own, side in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class Signature:
    """One way to call a SavedModel: its inputs and outputs by name."""

    key: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def __str__(self) -> str:
        taken, given = (
            ", ".join(f"{name} {tensor}" for name, tensor in sorted(tensors.items())) or "nothing"
            for tensors in (self.inputs, self.outputs)
        )
        return f"{self.key!r} takes {taken} and gives {given}"


@dataclass(frozen=True)
class Binding:
    """Which tensors of a signature are what.

    Attributes:
        image, output, mask: their names; None where there is no mask.
        mask_dtype, mask_rank: of the mask, [N, H, W] or with a channel.
        alone: whether the model takes one image at a time.
    """

    image: str
    output: str
    mask: str | None = None
    mask_dtype: str = "float32"
    mask_rank: int = 4
    alone: bool = False


def read_signatures(path: Path) -> dict[str, Signature]:
    """Read the signatures of the SavedModel in the folder `path`, by their keys.

    Raises:
        ContractError: its saved_model.pb cannot be read.
    """
    (graph,) = saved_model_proto.read(path).meta_graphs
    return {
        key: Signature(key, _tensors(found.inputs), _tensors(found.outputs))
        for key, found in sorted(graph.signature_def.items())
        if not key.startswith("__saved_model_")  # the initialiser
    }


def _tensors(infos: Any) -> dict[str, Tensor]:
    return {name: _tensor(info) for name, info in sorted(infos.items())}


def _tensor(info: Any) -> Tensor:
    shape = info.tensor_shape
    dims = tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
    return Tensor(
        _DTYPES.get(info.dtype, f"type {info.dtype}"), None if shape.unknown_rank else dims
    )


def pick(signatures: Mapping[str, Signature], key: str, path: Path) -> Signature:
    """Give the signature of a key.

    Raises:
        ContractError: it is not there; those that are, are listed.
    """
    if key not in signatures:
        raise ContractError(
            f"{path} has no signature {key!r}; it has {', '.join(map(repr, signatures)) or 'none'}"
        )
    return signatures[key]


def bind(path: Path, contract: Contract, signatures: Mapping[str, Signature]) -> Binding:
    """Find the tensors that a contract means, and hold them to it.

    Raises:
        ContractError: one is not there, or not what the contract says.
    """
    signature = pick(signatures, contract.signature, path)
    inputs, outputs = signature.inputs, signature.outputs
    image = _named(path, signature, "image_input", contract.image_input, inputs, contract)
    output = _named(path, signature, "image_output", contract.image_output, outputs, contract)
    mask = contract.mask_input
    if mask is not None:
        require_named(path, "mask_input", mask, inputs)
    if unknown := sorted(set(inputs) - {image, mask}):
        raise ContractError(
            f"{path}: the contract does not say what the input {unknown[0]!r} is: {signature}"
        )
    tensor, shape = inputs[image], _shape(contract, CHANNELS[contract.input_space])
    _hold(path, f"input {image!r}", tensor, (contract.dtype,), shape, tensor.takes(shape))
    alone = tensor.shape is not None and tensor.shape[0] == 1
    tensor, shape = outputs[output], _shape(contract, CHANNELS[contract.output_space])
    _hold(path, f"output {output!r}", tensor, IMAGE_DTYPES, shape, tensor.may_give(shape))
    if mask is None:
        return Binding(image, output, alone=alone)
    tensor, shape = inputs[mask], _shape(contract, 1)
    flat = (None, *(contract.size or (None, None)))
    takes = tensor.takes(shape) or tensor.takes(flat)
    _hold(path, f"mask {mask!r}", tensor, MASK_DTYPES, shape, takes)
    rank = 4 if tensor.shape is None else len(tensor.shape)
    return Binding(image, output, mask, tensor.dtype, rank, alone)


def _shape(contract: Contract, channels: int) -> Shape:
    height, width = contract.size or (None, None)
    if contract.layout == "NCHW":
        return (None, channels, height, width)
    return (None, height, width, channels)


def _named(
    path: Path,
    signature: Signature,
    field: str,
    name: str | None,
    tensors: Mapping[str, Tensor],
    contract: Contract,
) -> str:
    if name is None:
        left = sorted(set(tensors) - {contract.mask_input})
        if len(left) == 1:
            return left[0]
        raise ContractError(
            f"{path}: say which is the {field} (--{field}): {', '.join(left) or 'there is none'}; "
            f"{signature}"
        )
    require_named(path, field, name, tensors)
    return name


def require_named(path: Path, field: str, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Make sure that a signature has the tensor that a field of the contract names.

    Raises:
        ContractError: it has not; those that it has are listed.
    """
    if name not in tensors:
        raise ContractError(
            f"{path}: there is no {name!r} ({field}), only {', '.join(sorted(tensors))}"
        )


def _hold(
    path: Path, what: str, tensor: Tensor, dtypes: tuple[str, ...], shape: Shape, fits: bool
) -> None:
    if tensor.dtype not in dtypes or not fits:
        raise ContractError(
            f"{path}: {what} is {tensor}, but the contract says {' or '.join(dtypes)} {shape}"
        )

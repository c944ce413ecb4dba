"""Load a SavedModel with its contract, and run it. TensorFlow is imported on the first load."""

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models import zoo
from models.contract import CHANNELS, CONTRACT_FILE, Contract, ContractError

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "bfloat16")


@functools.cache
def has_bfloat16() -> bool:
    """Say whether this processor multiplies bfloat16 in hardware (AVX-512 BF16 or AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def resolve_precision(precision: Precision) -> Literal["float32", "bfloat16"]:
    """Turn `auto` into what this processor does fastest without emulation."""
    if precision == "auto":
        return "bfloat16" if has_bfloat16() else "float32"
    return precision


def locate(model: str) -> Path:
    """Find a SavedModel by the name of a zoo model, or by its path.

    Raises:
        ContractError: neither a zoo model nor a folder with a SavedModel.
    """
    if model in zoo.names():
        return zoo.path(model)
    path = Path(model)
    if (path / "saved_model.pb").is_file():
        return path
    known = ", ".join(zoo.names())
    reason = "has no saved_model.pb in it" if path.is_dir() else "is no such folder"
    if "://" in model:
        reason = "is no folder of this machine: give SavedModelHandler a `fetch`"
    raise ContractError(f"unknown model {model!r}: not in the zoo ({known}), and {reason}")


def read_contract(path: Path, contract_file: str | None = None) -> Contract:
    """Read the contract inside the SavedModel at `path`, or the one in `contract_file`.

    Raises:
        ContractError: there is none, or it is not sound.
    """
    source = Path(contract_file) if contract_file else path / CONTRACT_FILE
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise ContractError(
            f"no contract for the SavedModel {path}: cannot read {source} ({error.strerror}). "
            "Say what the model takes and gives in a JSON file and name it with --contract; "
            "docs/models.md lists the fields"
        ) from error
    return Contract.from_json(text, str(source))


def digest(path: Path) -> str:
    """Give the SHA-256 of a SavedModel: of the names and bytes of all its files."""
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


@dataclass(eq=False)
class LoadedModel:
    """A SavedModel in memory. Not thread-safe while two precisions are in use in one process."""

    contract: Contract
    precision: Literal["float32", "bfloat16"]
    _function: Any
    _input: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run the model.

        Args:
            images: float32 [N, H, W, C] in the contract's input space and range, of a size that
                the contract allows.

        Returns:
            float32 [N, H', W', C'] in the contract's output space and range.

        Raises:
            ContractError: the output's batch, channels or type are not what the contract says.
        """
        import tensorflow as tf

        _set_precision(tf, self.precision)
        (output,) = self._function(**{self._input: tf.constant(images)}).values()
        result = output.numpy()
        channels = CHANNELS[self.contract.output_space]
        if result.ndim != 4 or result.shape[0] != len(images) or result.shape[-1] != channels:
            raise ContractError(
                f"{self.contract.name} gave {result.shape} for {images.shape}; its contract says "
                f"[{len(images)}, height, width, {channels}]"
            )
        return result.astype(np.float32, copy=False)


def load(
    model: str,
    *,
    precision: Precision = "auto",
    threads: int | None = None,
    contract_file: str | None = None,
    sha256: str | None = None,
) -> LoadedModel:
    """Load a SavedModel for running.

    Args:
        model: a zoo name or a path.
        precision: "bfloat16" lets oneDNN compute convolutions and matrix products in bfloat16;
            "auto" does so only where the processor has it.
        threads: TensorFlow threads of this process; None leaves TensorFlow's own choice. It holds
            for the process and is ignored once TensorFlow has started.
        contract_file: a contract to use in place of the one in the SavedModel.
        sha256: what its `digest` must be.

    Raises:
        ContractError: no such model, no contract, a signature that contradicts it, or another
            digest.
    """
    path = locate(model)
    if sha256 is not None and (found := digest(path)) != sha256:
        raise ContractError(
            f"the SavedModel {path} is not the one that was asked for: its digest is {found}, "
            f"not {sha256}"
        )
    contract = read_contract(path, contract_file)
    tf = import_tensorflow()
    if threads is not None:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError:
            pass  # TensorFlow has started: the first caller in the process decided.
    resolved = resolve_precision(precision)
    _set_precision(tf, resolved)
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises many types; the remedy is the same
        raise ContractError(f"TensorFlow cannot load the SavedModel {path}: {error}") from error
    if contract.signature not in loaded.signatures:
        raise ContractError(
            f"{path} has no signature {contract.signature!r}; it has "
            f"{', '.join(map(repr, loaded.signatures)) or 'none'}"
        )
    function = loaded.signatures[contract.signature]
    # The signature is only weakly tied to the object that holds its variables.
    function.heliograph_keeps = loaded
    return LoadedModel(contract, resolved, function, _check_signature(path, contract, function))


def import_tensorflow() -> Any:
    """Import TensorFlow without its start-up chatter on standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    return tf


def _set_precision(tf: Any, precision: str) -> None:
    # The option belongs to the process and is read whenever a function is first run, so it is said
    # again before each call: two models of different precision may share a process.
    wanted = precision == "bfloat16"
    name = "auto_mixed_precision_onednn_bfloat16"
    if tf.config.optimizer.get_experimental_options().get(name, False) != wanted:
        tf.config.optimizer.set_experimental_options({name: wanted})


def _check_signature(path: Path, contract: Contract, function: Any) -> str:
    inputs = function.structured_input_signature[1]
    if len(inputs) != 1 or len(function.structured_outputs) != 1:
        raise ContractError(
            f"{path}: signature {contract.signature!r} must have one input and one output, not "
            f"{sorted(inputs)} and {sorted(function.structured_outputs)}"
        )
    ((name, spec),) = inputs.items()
    wanted = (None, *(contract.size or (None, None)), CHANNELS[contract.input_space])
    if spec.dtype.name != "float32" or not spec.shape.is_compatible_with(wanted):
        raise ContractError(
            f"{path}: input {name!r} is {spec.dtype.name} {spec.shape}, but the contract says "
            f"float32 {wanted}"
        )
    return name

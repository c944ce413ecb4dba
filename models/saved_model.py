"""Load a SavedModel with its contract, and run it. TensorFlow is imported on the first load."""

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models import zoo
from models.contract import CHANNELS, Contract, ContractError
from models.description import describe
from models.safety import require_safe
from models.signature import Binding, bind, read_signatures

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
    if path.is_file():
        reason = "is neither the folder of a SavedModel nor a .keras file"
    if "://" in model:
        reason = "is no folder of this machine: give SavedModelHandler a `fetch`"
    raise ContractError(f"unknown model {model!r}: not in the zoo ({known}), and {reason}")


def read_contract(path: Path, contract_file: str | None = None) -> Contract:
    """Read the contract inside the SavedModel at `path`, or the one in `contract_file`, with what
    it leaves to the signature; see `models.description.describe`.

    Raises:
        ContractError: there is none and the signature does not tell enough, or it is not sound.
    """
    return describe(path, contract_file=contract_file).contract


def digest(path: Path) -> str:
    """Give the SHA-256 of a SavedModel: of the names and bytes of all its files; or of one file."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
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
    _binding: Binding

    def __call__(self, images: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
        """Run the model.

        Args:
            images: float32 [N, H, W, C] in the contract's input space and range, of a size that
                the contract allows. Layout and type are made the model's own here.
            masks: bool [N, H, W], True where a pixel is missing, for a model that takes masks.

        Returns:
            float32 [N, H', W', C'] in the contract's output space and range.

        Raises:
            ContractError: the output's batch, channels or type are not what the contract says.
            ValueError: a mask for a model that takes none, or none for one that does.
        """
        import tensorflow as tf

        if (masks is None) != (self.contract.mask_input is None):
            takes = "no mask" if masks is not None else "a mask of missing pixels with each image"
            raise ValueError(f"{self.contract.name} takes {takes}")
        set_precision(tf, self.precision)
        if self._binding.alone and len(images) > 1:
            ones = (slice(n, n + 1) for n in range(len(images)))
            return np.concatenate(
                [self(images[one], None if masks is None else masks[one]) for one in ones]
            )
        tensors = _tensors(images, masks, self.contract, self._binding)
        outputs = self._function(**{name: tf.constant(value) for name, value in tensors.items()})
        result = outputs[self._binding.output].numpy()
        if self.contract.layout == "NCHW" and result.ndim == 4:
            result = np.moveaxis(result, 1, -1)
        channels = CHANNELS[self.contract.output_space]
        if result.ndim != 4 or result.shape[0] != len(images) or result.shape[-1] != channels:
            raise ContractError(
                f"{self.contract.name} gave {result.shape} for {images.shape}; its contract says "
                f"[{len(images)}, height, width, {channels}]"
            )
        return result.astype(np.float32, copy=False)


def _tensors(
    images: np.ndarray, masks: np.ndarray | None, contract: Contract, binding: Binding
) -> dict[str, np.ndarray]:
    """Make the inputs of a model, by their names, of float32 [N, H, W, C] and bool [N, H, W]."""
    tensors = {}
    if masks is not None:
        if contract.mask_fill is not None:
            images = np.where(masks[..., None], np.float32(contract.mask_fill), images)
        assert binding.mask is not None, "a mask goes where the contract says"
        there, missing = contract.mask_values
        values = np.where(masks, missing, there).astype(binding.mask_dtype)
        if binding.mask_rank == 4:
            values = values[:, None] if contract.layout == "NCHW" else values[..., None]
        tensors[binding.mask] = values
    if contract.dtype == "uint8":
        images = np.rint(np.clip(images, 0, 255))
    if contract.layout == "NCHW":
        images = np.moveaxis(images, -1, 1)
    tensors[binding.image] = np.ascontiguousarray(images, contract.dtype)
    return tensors


def load(
    model: str,
    *,
    precision: Precision = "auto",
    threads: int | None = None,
    contract_file: str | None = None,
    contract: Contract | None = None,
    sha256: str | None = None,
    trust: bool = False,
) -> LoadedModel:
    """Load a SavedModel for running.

    Args:
        model: a zoo name or a path.
        precision: "bfloat16" lets oneDNN compute convolutions and matrix products in bfloat16;
            "auto" does so only where the processor has it.
        threads: TensorFlow threads of this process; None leaves TensorFlow's own choice. It holds
            for the process and is ignored once TensorFlow has started.
        contract_file: a contract to use in place of the one in the SavedModel.
        contract: the same, ready-made.
        sha256: what its `digest` must be.
        trust: load it whatever it could do; models of the zoo are trusted.

    Raises:
        UnsafeModelError: its graph could do more than compute; see `models.safety`.
        ContractError: no such model, no contract, a signature that contradicts it, or another
            digest.
    """
    path = locate(model)
    if sha256 is not None and (found := digest(path)) != sha256:
        raise ContractError(
            f"the SavedModel {path} is not the one that was asked for: its digest is {found}, "
            f"not {sha256}"
        )
    if not trust and model not in zoo.names():
        require_safe(path)
    contract = contract or read_contract(path, contract_file)
    binding = bind(path, contract, read_signatures(path))
    tf = import_tensorflow()
    if threads is not None:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError:
            pass  # TensorFlow has started: the first caller in the process decided.
    resolved = resolve_precision(precision)
    set_precision(tf, resolved)
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises many types; the remedy is the same
        raise ContractError(f"TensorFlow cannot load the SavedModel {path}: {error}") from error
    function = loaded.signatures[contract.signature]
    # The signature is only weakly tied to the object that holds its variables.
    function.heliograph_keeps = loaded
    return LoadedModel(contract, resolved, function, binding)


def import_tensorflow() -> Any:
    """Import TensorFlow without its start-up chatter on standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    return tf


def set_precision(tf: Any, precision: str) -> None:
    """Say in what functions that are run from here on compute: "float32" or "bfloat16"."""
    # The option belongs to the process and is read whenever a function is first run, so it is said
    # again before each call: two models of different precision may share a process.
    wanted = precision == "bfloat16"
    name = "auto_mixed_precision_onednn_bfloat16"
    if tf.config.optimizer.get_experimental_options().get(name, False) != wanted:
        tf.config.optimizer.set_experimental_options({name: wanted})

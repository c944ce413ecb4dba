"""SavedModels that compare two images, such as LPIPS: two images in, one number out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.contract import ContractError
from models.safety import require_safe
from models.saved_model import digest, import_tensorflow, set_precision
from models.signature import Signature, read_signatures

Compare = Callable[[np.ndarray, np.ndarray], float]

_KEY = "serving_default"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a SavedModel compares: what was checked of it before anything is loaded.

    Attributes:
        signature: its key.
        inputs: the names of the image's and the reference's input, in the order of the alphabet.
        output: the name of the number's.
    """

    signature: str
    inputs: tuple[str, str]
    output: str


def describe(path: Path, *, trust: bool = False) -> Comparison:
    """Check that a SavedModel takes two images, float32 [1, H, W, 3], and gives one number.

    Raises:
        UnsafeModelError: its graph could do more than compute; see `models.safety`.
        ContractError: it is not there, or takes or gives something else.
    """
    if not (path / "saved_model.pb").is_file():
        raise ContractError(f"{path} is not the folder of a SavedModel that compares two images")
    if not trust:
        require_safe(path)
    signatures = read_signatures(path)
    signature = signatures.get(_KEY) or next(iter(signatures.values()), None)
    if signature is None or not _compares(signature):
        found = "it has no signature" if signature is None else str(signature)
        raise ContractError(
            f"{path} does not compare images: it should take two float32 (None, height, width, 3) "
            f"from 0 to 1 and give one float32, but {found}"
        )
    first, second = sorted(signature.inputs)
    (output,) = signature.outputs
    return Comparison(signature.key, (first, second), output)


def _compares(signature: Signature) -> bool:
    images = [
        tensor.dtype == "float32" and tensor.takes((1, 64, 64, 3))
        for tensor in signature.inputs.values()
    ]
    numbers = [tensor.dtype == "float32" for tensor in signature.outputs.values()]
    return images == [True, True] and numbers == [True]


def load(path: Path, *, sha256: str | None = None, trust: bool = False) -> Compare:
    """Load a SavedModel that compares.

    Args:
        path: its folder.
        sha256: what its `digest` must be.
        trust: load it whatever it could do.

    Returns:
        A function of two float32 [H, W, 3], sRGB from 0 to 1, that gives the number.

    Raises:
        UnsafeModelError, ContractError: see `describe`; or its digest is another.
    """
    if sha256 is not None and (found := digest(path)) != sha256:
        raise ContractError(
            f"the SavedModel {path} is not the one that was asked for: its digest is {found}, "
            f"not {sha256}"
        )
    known = describe(path, trust=trust)
    tf = import_tensorflow()
    loaded: Any = tf.saved_model.load(str(path))
    function = loaded.signatures[known.signature]

    def compare(image: np.ndarray, reference: np.ndarray) -> float:
        set_precision(tf, "float32")  # whatever a model beside it computes in
        named = zip(known.inputs, (image, reference), strict=True)
        given = function(**{name: tf.constant(values[None]) for name, values in named})
        number = given[known.output].numpy()
        if number.size != 1:
            raise ContractError(f"{path} gave {number.shape} for two images, not one number")
        return float(number.reshape(()))

    compare.keeps = loaded  # type: ignore[attr-defined]  # a signature does not hold its variables
    return compare

"""A SavedModel as a Beam ModelHandler, for RunInference here and in anybody's pipeline.

Beam's own TFModelHandlerNumpy and TFModelHandlerTensor cannot load a SavedModel on TensorFlow 2.16
or newer (apache/beam#30616), and pair inputs with outputs without checking that there are as many.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from models.contract import Contract
from models.saved_model import LoadedModel, Precision, load

# An image, or an image and the mask of its missing pixels.
Element = np.ndarray | tuple[np.ndarray, np.ndarray]


def _image(element: Element) -> np.ndarray:
    return element[0] if isinstance(element, tuple) else element


class SavedModelHandler(ModelHandler[Element, PredictionResult, LoadedModel]):
    """Run a SavedModel on images.

    Elements are float32 arrays [H, W, C] in the model's own colour space, range and size (see its
    `Contract`); for a model that takes masks, pairs of such an array and a bool array [H, W], True
    where a pixel is missing. Results are `PredictionResult`s whose inference is the float32 output
    array.

        images | RunInference(SavedModelHandler("denoise"))

    Args:
        model: the name of a shipped model, or the path of a SavedModel.
        precision: "auto", "float32" or "bfloat16".
        threads: TensorFlow threads for each worker process; None leaves TensorFlow's choice.
        contract_file: a contract for a SavedModel that has none inside.
        batch_size: images a call; they are stacked where they have one size.
        fetch: gives a folder on the worker for a model that is elsewhere, such as
            `transforms.storage.local_folder`; the folder is left once the model is in memory.
        sha256: the digest that the model must have (see `models.saved_model.digest`).
        contract: a contract, ready-made, in place of the one inside.
        trust: load the model even if it could do more than compute (see `models.safety`).
    """

    def __init__(
        self,
        model: str,
        *,
        precision: Precision = "auto",
        threads: int | None = None,
        contract_file: str | None = None,
        batch_size: int = 8,
        fetch: Callable[[str], AbstractContextManager[str]] = nullcontext,
        sha256: str | None = None,
        contract: Contract | None = None,
        trust: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        self.threads = threads
        self.contract_file = contract_file
        self.batch_size = batch_size
        self.fetch = fetch
        self.sha256 = sha256
        self.contract = contract
        self.trust = trust

    def load_model(self) -> LoadedModel:
        """Load the SavedModel, once for each worker process."""
        with self.fetch(self.model) as folder:
            return load(
                folder,
                precision=self.precision,
                threads=self.threads,
                contract_file=self.contract_file,
                sha256=self.sha256,
                contract=self.contract,
                trust=self.trust,
            )

    def run_inference(
        self,
        batch: Sequence[Element],
        model: LoadedModel,
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterable[PredictionResult]:
        """Run neighbours of one size as one stack."""
        for _, group in groupby(batch, key=lambda element: _image(element).shape):
            elements = list(group)
            images = np.stack([_image(element) for element in elements])
            masks = None
            if isinstance(elements[0], tuple):
                masks = np.stack([mask for _, mask in elements]).astype(bool, copy=False)
            outputs = model(images.astype(np.float32, copy=False), masks)
            for element, output in zip(elements, outputs, strict=True):
                yield PredictionResult(element, output, self.model)

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """Ask Beam for batches of one size."""
        return {"min_batch_size": self.batch_size, "max_batch_size": self.batch_size}

    def get_num_bytes(self, batch: Sequence[Element]) -> int:
        """Count the bytes of the arrays, where Beam's default counts those of their headers."""
        return sum(
            array.nbytes
            for element in batch
            for array in (element if isinstance(element, tuple) else (element,))
        )

    def get_metrics_namespace(self) -> str:
        """Group Beam's inference metrics under our name."""
        return "heliograph"

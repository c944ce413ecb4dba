"""One step of training, on any Keras backend: towards a truth, or against an adversary."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import keras
import numpy as np

from models.losses import Loss

Inputs = np.ndarray | list[np.ndarray]


class Supervised:
    """Train a model towards what it should give.

    Args:
        model: what is trained.
        optimizer: of its weights.
        loss: of the truth and what the model gives.
    """

    def __init__(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Loss
    ) -> None:
        self._model = model
        model.compile(optimizer, loss=loss)
        optimizer.build(model.trainable_variables)
        self._optimizer = optimizer

    def step(self, inputs: Inputs, truth: np.ndarray) -> dict[str, float]:
        """Take one step on a batch, and give its loss as `loss`."""
        return {"loss": _on_batch(self._model, inputs, truth)["loss"]}

    @property
    def state(self) -> list[keras.Variable]:
        """All that decides the steps to come: weights, moments, counters and random states."""
        return [*self._model.variables, *self._optimizer.variables]


class Adversarial:
    """Train a generator and a discriminator by turns, as Isola et al. 2017 (arXiv:1611.07004).

    The discriminator learns to tell the chroma of photographs (with labels of 0.9; Salimans et al.
    2016, arXiv:1606.03498) from the generator's, then the generator to be taken for them, and to be
    near the truth in L1.

    Args:
        generator: from lightness to chroma.
        discriminator: from lightness and chroma to logits of patches.
        optimizers: of the one and of the other.
        weight: of the L1 loss beside the adversarial one.
    """

    REAL = 0.9

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        optimizers: tuple[keras.optimizers.Optimizer, keras.optimizers.Optimizer],
        weight: float = 50.0,
    ) -> None:
        self._generator, self._discriminator = generator, discriminator
        self._optimizers = optimizers
        judged = keras.losses.BinaryCrossentropy(from_logits=True)
        discriminator.compile(optimizers[1], loss=judged)
        optimizers[1].build(discriminator.trainable_variables)
        chroma = generator(generator.inputs[0])
        self._pair = keras.Model(
            generator.inputs[0], [discriminator([generator.inputs[0], chroma]), chroma]
        )
        with _frozen(discriminator):
            self._pair.compile(
                optimizers[0],
                loss=[judged, keras.losses.MeanAbsoluteError()],
                loss_weights=[1.0, weight],
            )
            optimizers[0].build(self._pair.trainable_variables)
        self._weight = weight

    def step(self, inputs: Inputs, truth: np.ndarray) -> dict[str, float]:
        """Take a step of each on a batch.

        Returns:
            `loss`, the generator's; its parts, `adversarial` and `l1`; and `discriminator`, 0.69
            where it cannot tell one from the other.
        """
        assert isinstance(inputs, np.ndarray), "a colorizer takes lightness alone"
        invented = np.asarray(self._generator.predict_on_batch(inputs))
        shown = [np.concatenate([inputs, inputs]), np.concatenate([truth, invented])]
        patches = np.asarray(self._discriminator.compute_output_shape([i.shape for i in shown]))
        labels = np.zeros(patches, np.float32)
        labels[: len(inputs)] = self.REAL
        discriminator = _on_batch(self._discriminator, shown, labels)["loss"]
        with _frozen(self._discriminator):
            ones = np.ones((len(inputs), *patches[1:]), np.float32)
            logs = _on_batch(self._pair, inputs, [ones, truth])
        l1 = float(np.mean(np.abs(invented - truth)))
        adversarial = logs["loss"] - self._weight * l1
        return {
            "loss": logs["loss"],
            "adversarial": adversarial,
            "l1": l1,
            "discriminator": discriminator,
        }

    @property
    def state(self) -> list[keras.Variable]:
        """All that decides the steps to come: weights, moments, counters and random states."""
        return [
            *self._generator.variables,
            *self._discriminator.variables,
            *self._optimizers[0].variables,
            *self._optimizers[1].variables,
        ]


@contextmanager
def _frozen(model: keras.Model) -> Iterator[None]:
    """Leave a model as it is while the block runs."""
    model.trainable = False
    try:
        yield
    finally:
        model.trainable = True


def _on_batch(model: keras.Model, inputs, truth) -> Mapping[str, float]:
    # Keras would go on averaging over all steps so far.
    model.reset_metrics()
    logs = model.train_on_batch(inputs, truth, return_dict=True)
    return {name: float(value) for name, value in logs.items()}

"""Optimizers and the schedules of their learning rates, each in one table."""

import math
from collections.abc import Callable

import keras
from keras import ops

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
}

# The learning rate as a share of its peak, by the share of the steps that are done.
SCHEDULES: dict[str, Callable] = {
    "constant": lambda done: ops.ones_like(done),
    "cosine": lambda done: 0.5 * (1 + ops.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "exponential": lambda done: ops.exp(math.log(0.01) * done),
    "steps": lambda done: ops.power(0.1, ops.floor(3 * done)),
}


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises to its peak, then follows one of `SCHEDULES`.

    Args:
        name: of the schedule.
        peak: the highest rate.
        steps: of the whole training.
        warmup: steps in which the rate rises evenly.
    """

    def __init__(self, name: str, peak: float, steps: int, warmup: int = 0) -> None:
        self.name, self.peak, self.steps, self.warmup = name, peak, steps, warmup

    def __call__(self, step):
        """Give the rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        rising = ops.minimum((step + 1) / max(1, self.warmup), 1.0)
        done = ops.clip((step - self.warmup) / max(1, self.steps - self.warmup), 0.0, 1.0)
        return self.peak * rising * SCHEDULES[self.name](done)

    def get_config(self) -> dict:
        """Give what the schedule was made with."""
        names = ("name", "peak", "steps", "warmup")
        return {name: getattr(self, name) for name in names}


def make_optimizer(
    name: str,
    rate: float | Schedule,
    *,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    **settings: float,
) -> keras.optimizers.Optimizer:
    """Make an optimizer of `OPTIMIZERS`.

    Args:
        name: of the optimizer.
        rate: the learning rate.
        weight_decay: share of the weights, times the rate, that each step takes away; biases and
            the gains of normalisation are left alone.
        clip_norm: gradients of a greater norm, all together, are shortened to it.
        settings: what else the optimizer takes.
    """
    if name == "sgd":
        settings = {"momentum": 0.9, **settings}
    # None spares a pass over the weights, which Keras' AdamW insists on.
    decay = weight_decay if weight_decay or name == "adamw" else None
    optimizer = OPTIMIZERS[name](rate, weight_decay=decay, global_clipnorm=clip_norm, **settings)
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer

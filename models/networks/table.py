"""The table of networks: what each is built of, what it is for, and how it is trained."""

from collections.abc import Callable
from dataclasses import dataclass, field

import keras

from models.contract import Contract, Space
from models.networks import autoencoders, colorizers, gan
from models.networks.unet import unet, unet_margin


class NetworkError(ValueError):
    """A network that cannot be built as it was asked for, and what can."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What can be chosen about a network; each takes only some of it.

    Attributes:
        side: of the crops that it is trained on, in pixels.
        colour_space: RGB or gray, of images; Lab, YUV, HSV or RGB, of what a colorizer predicts.
        variational: encode to a distribution.
        classification: predict chroma by classes instead of by regression.
        masked: take the mask of missing pixels beside the image.
    """

    side: int
    colour_space: str | None = None
    variational: bool = False
    classification: bool = False
    masked: bool = False


@dataclass(frozen=True, kw_only=True)
class Built:
    """A network that is ready to train.

    Attributes:
        model: what is exported.
        learner: what is trained, sharing the model's layers: it gives an image where the model
            gives a residual, and logits where the model gives the colours that they stand for.
        contract: of what is exported.
        space: of the learner's truth: that of the contract, or one that is converted to it on
            export.
        adversary: the discriminator, of a GAN.
    """

    model: keras.Model
    learner: keras.Model
    contract: Contract
    space: str
    adversary: keras.Model | None = None


@dataclass(frozen=True, kw_only=True)
class Network:
    """An entry of the table.

    Attributes:
        summary: what it is for.
        source: where it is from.
        build: makes it.
        choices: what can be chosen, by the attributes of `Choices`.
        recipe: the damage that it learns to undo, unless another is named.
        loss: the same of its loss.
        side: the same of its crops, in pixels.
        augment: the same of how crops are varied (see `pipeline.examples.AUGMENTATIONS`).
        colour_spaces: what `colour_space` may be, the default first.
    """

    summary: str
    source: str
    build: Callable[[Choices], Built]
    recipe: str
    loss: str
    side: int
    augment: tuple[str, ...]
    choices: frozenset[str] = field(default=frozenset())
    colour_spaces: tuple[str, ...] = ()


def _channels(choices: Choices) -> int:
    return 1 if choices.colour_space == "gray" else 3


def _dense_autoencoder(choices: Choices) -> Built:
    model = autoencoders.dense_autoencoder(side=choices.side)
    contract = Contract(
        name="dense-autoencoder",
        input_space="gray",
        output_space="gray",
        size=(choices.side, choices.side),
    )
    return Built(model=model, learner=model, contract=contract, space="gray")


def _conv_autoencoder(choices: Choices) -> Built:
    # Small images, such as digits, are halved twice, larger ones three times.
    widths = (48, 96) if choices.side < 48 else (48, 96, 128)
    channels = _channels(choices)
    model = autoencoders.conv_autoencoder(
        channels=channels, widths=widths, variational=choices.variational
    )
    space: Space = "gray" if channels == 1 else "RGB"
    contract = Contract(
        name="conv-autoencoder",
        input_space=space,
        output_space=space,
        multiple=2 ** len(widths),
        margin=autoencoders.conv_margin(len(widths)),
    )
    return Built(model=model, learner=model, contract=contract, space=space)


def _unet(choices: Choices) -> Built:
    blocks = (2, 1, 1)
    channels = _channels(choices)
    model = unet(channels=channels, widths=(64, 64, 64), blocks=blocks, mask=choices.masked)
    space: Space = "gray" if channels == 1 else "RGB"
    contract = Contract(
        name="unet",
        input_space=space,
        output_space=space,
        output="residual",
        multiple=2 ** len(blocks),
        margin=unet_margin(blocks),
        image_input="image" if choices.masked else None,
        mask_input="mask" if choices.masked else None,
    )
    restored = keras.layers.Add(dtype="float32")([model.inputs[0], model.outputs[0]])
    learner = keras.Model(autoencoders.inputs_of(model), restored, name="unet_learner")
    return Built(model=model, learner=learner, contract=contract, space=space)


def _chroma_contract(name: str, multiple: int, side: int) -> Contract:
    return Contract(
        name=name,
        input_space="L",
        output_space="ab",
        input_range=(-1.0, 1.0),
        output_range=(-128 / colorizers.CHROMA_UNIT, 128 / colorizers.CHROMA_UNIT),
        multiple=multiple,
        shortest_side=side,
    )


def _cnn_colorizer(choices: Choices) -> Built:
    contract = _chroma_contract("cnn-colorizer", 32, choices.side)
    if choices.classification:
        model, learner = colorizers.cnn_classifier()
    else:
        model = learner = colorizers.cnn_colorizer()
    return Built(model=model, learner=learner, contract=contract, space="ab")


def _autoencoder_colorizer(choices: Choices) -> Built:
    space = choices.colour_space or "Lab"
    model = autoencoders.autoencoder_colorizer(colour_space=space)
    contract = _chroma_contract("autoencoder-colorizer", 8, choices.side)
    return Built(
        model=model, learner=model, contract=contract, space="ab" if space == "Lab" else space
    )


def _gan_colorizer(choices: Choices) -> Built:
    model = gan.generator()
    return Built(
        model=model,
        learner=model,
        contract=_chroma_contract("gan-colorizer", 16, choices.side),
        space="ab",
        adversary=gan.discriminator(),
    )


_RESTORERS = "gaussian_noise:sigma=25"

NETWORKS: dict[str, Network] = {
    "dense-autoencoder": Network(
        summary="gray images of one small size, such as digits, through a code of 64 numbers",
        source="Hinton and Salakhutdinov 2006; Vincent et al. 2008",
        build=_dense_autoencoder,
        recipe="mask:amount=0.5",
        loss="mse",
        side=28,
        augment=(),
    ),
    "conv-autoencoder": Network(
        summary="images of any size through a convolutional bottleneck",
        source="Masci et al. 2011; variational: Kingma and Welling 2014",
        build=_conv_autoencoder,
        choices=frozenset({"colour_space", "variational"}),
        colour_spaces=("RGB", "gray"),
        recipe=f"oneof({_RESTORERS},mask:amount=0.3,colour_cast:3)",
        loss="charbonnier",
        side=64,
        augment=("flip", "turn"),
    ),
    "unet": Network(
        summary="images of any size, with skip connections; with a mask, for missing pixels",
        source="Ronneberger et al. 2015; Zhang et al. 2018; Mohan et al. 2020",
        build=_unet,
        choices=frozenset({"colour_space", "masked"}),
        colour_spaces=("RGB", "gray"),
        recipe=_RESTORERS,
        loss="l1",
        side=64,
        augment=("flip", "turn"),
    ),
    "cnn-colorizer": Network(
        summary="chroma from lightness, by regression or by classes of colours",
        source="Iizuka et al. 2016; by classes: Zhang et al. 2016",
        build=_cnn_colorizer,
        choices=frozenset({"classification"}),
        recipe="grayscale",
        loss="huber",
        side=128,
        augment=("zoom", "flip", "tone"),
    ),
    "autoencoder-colorizer": Network(
        summary="colour from gray through a bottleneck, in one of four colour spaces",
        source="Cheng et al. 2015",
        build=_autoencoder_colorizer,
        choices=frozenset({"colour_space"}),
        colour_spaces=("Lab", "YUV", "HSV", "RGB"),
        recipe="grayscale",
        loss="huber",
        side=64,
        augment=("zoom", "flip"),
    ),
    "gan-colorizer": Network(
        summary="chroma from lightness, by a U-Net against a discriminator of patches",
        source="Isola et al. 2017",
        build=_gan_colorizer,
        recipe="grayscale",
        loss="l1",
        side=64,
        augment=("zoom", "flip"),
    ),
}


def build(name: str, choices: Choices) -> Built:
    """Build a network of the table, with weights that `keras.utils.set_random_seed` decides.

    Raises:
        NetworkError: something that the network cannot be chosen to be.
    """
    network = NETWORKS[name]
    default = Choices(side=choices.side)
    for choice in ("colour_space", "variational", "classification", "masked"):
        if choice not in network.choices and getattr(choices, choice) != getattr(default, choice):
            takes = ", ".join(sorted(network.choices)) or "none"
            raise NetworkError(f"{name} has no choice of {choice}; of these it has: {takes}")
    if choices.colour_space not in (None, *network.colour_spaces):
        raise NetworkError(
            f"{name} has the colour spaces {', '.join(network.colour_spaces)}, "
            f"not {choices.colour_space}"
        )
    built = network.build(choices)
    if choices.side % built.contract.multiple:
        raise NetworkError(
            f"{name} takes crops of multiples of {built.contract.multiple} pixels, "
            f"not {choices.side}"
        )
    return built

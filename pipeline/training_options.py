"""What `heliograph train` can be told, beside the table of what jobs can.

Neither Keras nor TensorFlow is imported here, so that `heliograph train --help` answers at once.
"""

from typing import Any

from pipeline.option import Option, number, whole
from pipeline.options import OPTIONS

TRAIN = "train"

# The names in the tables of networks, optimizers and schedules, which are Keras' to import.
NETWORKS = (
    "dense-autoencoder",
    "conv-autoencoder",
    "unet",
    "cnn-colorizer",
    "autoencoder-colorizer",
    "gan-colorizer",
)
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SCHEDULES = ("constant", "cosine", "linear", "exponential", "steps")


def _training(*flags: str, **settings: Any) -> Option:
    return Option(flags, frozenset((TRAIN,)), settings)


# Of `train`, which runs no pipeline: some mean the same as a job's, few of Beam's are among them.
TRAINING_OPTIONS: tuple[Option, ...] = (
    _training("--network", required=True, choices=NETWORKS, help="what to train"),
    _training(
        "--recipe",
        help="damage to learn to undo, as of `heliograph evaluate` (default: the network's own)",
    ),
    _training(
        "--colour_space",
        choices=("RGB", "gray", "Lab", "YUV", "HSV"),
        help="RGB or gray, of the images of conv-autoencoder and unet; Lab, YUV, HSV or RGB, of "
        "what autoencoder-colorizer predicts (default: the first)",
    ),
    _training(
        "--variational", action="store_true", help="conv-autoencoder: encode to a distribution"
    ),
    _training(
        "--classification",
        action="store_true",
        help="cnn-colorizer: predict classes of colours, rare ones weighted up, instead of a mean",
    ),
    _training(
        "--masked", action="store_true", help="unet: take the mask of missing pixels as well"
    ),
    _training(
        "--initial",
        metavar="PATH",
        help="SavedModel of an earlier training, or its best.npz, to start from",
    ),
    _training(
        "--freeze_encoder",
        action="store_true",
        help="leave the layers up to the network's bottleneck as they are",
    ),
    _training("--steps", type=whole(1), default=10_000, metavar="N", help="(default: %(default)s)"),
    _training(
        "--batch",
        type=whole(1),
        default=32,
        metavar="N",
        help="crops a step (default: %(default)s)",
    ),
    _training(
        "--crop",
        type=whole(8),
        metavar="PIXELS",
        help="side of the crops (default: the network's own)",
    ),
    _training(
        "--augment",
        metavar="NAMES",
        help="how crops are varied: zoom, flip, turn and tone, joined by commas, or none "
        "(default: the network's own)",
    ),
    _training(
        "--loss",
        help="mse, l1, charbonnier, huber, ssim or ciede2000, or several with weights, such as "
        "0.16*l1+0.84*ssim (default: the network's own)",
    ),
    _training("--optimizer", choices=OPTIMIZERS, default="adam", help="(default: %(default)s)"),
    _training(
        "--rate",
        type=number(0),
        default=1e-3,
        help="highest learning rate (default: %(default)s)",
    ),
    _training(
        "--schedule",
        choices=SCHEDULES,
        default="cosine",
        help="how the rate goes down (default: %(default)s)",
    ),
    _training(
        "--warmup",
        type=whole(0),
        default=0,
        metavar="STEPS",
        help="in which the rate rises to its highest (default: %(default)s)",
    ),
    _training("--weight_decay", type=number(0, 1), default=0.0, help="(default: %(default)s)"),
    _training(
        "--clip_norm",
        type=number(0),
        metavar="NORM",
        help="shorten gradients of a greater norm to it (default: none is)",
    ),
    _training(
        "--every",
        type=whole(1),
        default=500,
        metavar="STEPS",
        help="between validations, each with a checkpoint (default: %(default)s)",
    ),
    _training(
        "--patience",
        type=whole(0),
        default=0,
        metavar="N",
        help="stop after as many validations without a gain, and keep the best weights "
        "(default: 0, go on to the end and keep the last)",
    ),
    _training(
        "--validation_share",
        type=number(0, 0.9),
        default=0.05,
        metavar="SHARE",
        help="of the images that are held out, by their keys (default: %(default)s)",
    ),
    _training(
        "--validation_images",
        type=whole(1),
        default=64,
        metavar="N",
        help="most of them that are scored (default: %(default)s)",
    ),
    _training(
        "--seed",
        type=whole(0),
        default=0,
        help="of weights, crops, damage and all else (default: %(default)s)",
    ),
    _training(
        "--work",
        metavar="FOLDER",
        help="for checkpoints, TensorBoard's logs and decoded images (default: "
        "SAVEDMODEL.training)",
    ),
    _training("--resume", action="store_true", help="go on from the last checkpoint"),
    _training(
        "--overwrite", action="store_true", help="replace SAVEDMODEL and an earlier training of it"
    ),
    _training(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="arithmetic: weights are float32 in any case (default: %(default)s)",
    ),
    _training(
        "--threads",
        type=whole(1),
        metavar="N",
        help="of TensorFlow, for the network (default: one per core)",
    ),
    _training(
        "--workers",
        type=whole(0),
        metavar="N",
        help="processes that make crops; 0 makes them between the steps (default: one per core)",
    ),
    *(
        Option(option.flags, frozenset((TRAIN,)), option.settings)
        for option in OPTIONS
        if option.name in ("format", "image_column", "name_column", "max_pixels")
    ),
)

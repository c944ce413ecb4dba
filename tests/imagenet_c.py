"""ImageNet-C's corruptions as others wrote them: `imagecorruptions` 1.1.2, mended to run today.

The package (https://github.com/bethgelab/imagecorruptions) is the reference that ours are compared
with. Its source is read, mended as `MENDS` says, and run as a module of our own: nothing outside
this file sees the mends, and the package itself is never imported.
"""

import importlib.util
import types
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

# What stands there, what is put in its place, and why. Each is there, or loading fails.
MENDS = [
    # pkg_resources left setuptools; frost's pictures lie beside the source.
    (
        "from pkg_resources import resource_filename",
        "resource_filename = lambda package, name: os.path.join(os.path.dirname(__file__), name)",
    ),
    # A name that SciPy is about to drop, and warns of.
    ("from scipy.ndimage.interpolation import", "from scipy.ndimage import"),
    # scikit-image 0.19 renamed the argument; with gray images it left the columns unblurred.
    ("multichannel=True", "channel_axis=-1 if np.ndim(x) == 3 else None"),
    # NumPy 2 dropped the name.
    ("np.float_)", "np.float64)"),
    # x[h, w] of an RGB array is a view: the first assignment changed what the second one copied,
    # so that one of the two pixels was doubled and the other one lost.
    ("= x[h_prime, w_prime], x[h, w]", "= x[h_prime, w_prime].copy(), x[h, w].copy()"),
    # scikit-image's own generator, which np.random.seed does not reach.
    ("mode='s&p', amount=c)", "mode='s&p', amount=c, rng=_draws.generator)"),
    # Where the motion was longer than the image, the rest of the kernel was left out and the image
    # got darker. A shift by the whole side less one is the border repeated, as farther ones are.
    (
        """\
        if (np.abs(dy) >= x.shape[0] or np.abs(dx) >= x.shape[1]):
            # simulated motion exceeded image borders
            break
""",
        """\
        dy = max(1 - x.shape[0], min(dy, x.shape[0] - 1))
        dx = max(1 - x.shape[1], min(dx, x.shape[1] - 1))
""",
    ),
    # Random numbers come from whoever asks, and NumPy's global state stays as it is.
    ("np.random.", "_draws."),
    # Gray images have no shape[2] to ask for.
    ("if len(shape) >= 3 or shape[2] >=3:", "if len(shape) >= 3:"),
]

NAMES = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("gaussian_blur", "glass_blur", "defocus_blur", "motion_blur", "zoom_blur"),
    *("fog", "frost", "snow", "spatter"),
    *("brightness", "contrast", "saturate"),
    *("jpeg_compression", "pixelate", "elastic_transform"),
)


class Given:
    """Numbers drawn beforehand, in place of `np.random`: each call takes the next array.

    They are standard normals, uniforms of [0, 1), whole numbers or Poisson counts, and are scaled
    here to the mean and range asked for.
    """

    def __init__(self, arrays: Sequence):
        self._arrays = iter(arrays)

    def normal(self, loc=0.0, scale=1.0, size=None):
        return loc + scale * self.randint(size=size)

    def uniform(self, low=0.0, high=1.0, size=None):
        return low + (high - low) * self.randint(size=size)

    def poisson(self, lam):
        return self.randint(size=np.shape(lam))

    def randint(self, low=0, high=None, size=None):
        array = np.asarray(next(self._arrays))
        due = () if size is None else tuple(np.atleast_1d(size))
        assert array.shape == due, f"numbers of shape {due} are due, not {array.shape}"
        return array


def _drawn(rng: np.random.Generator) -> types.SimpleNamespace:
    """A generator, in place of `np.random`."""
    return types.SimpleNamespace(
        normal=rng.normal,
        uniform=rng.uniform,
        poisson=rng.poisson,
        randint=rng.integers,
        generator=rng,
    )


def reference(
    name: str,
    pixels: np.ndarray,
    severity: int,
    draws: np.random.Generator | Sequence | None = None,
) -> np.ndarray:
    """Corrupt uint8 [H, W, 1 or 3] as the reference does, gray images by its own way with gray.

    Args:
        name: one of `NAMES`.
        pixels: not changed.
        severity: 1 to 5.
        draws: a generator, or an array for each of its draws in turn, as `Given` says; None for a
            generator of seed 0. Impulse noise needs a generator.

    Returns:
        float64 of the shape of `pixels`, 0 to 255: what the reference would go on to cut, not
        round, to whole levels.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    corrupted = getattr(mended(draws), name)(image, severity)
    return np.asarray(corrupted, np.float64).reshape(pixels.shape)


def mended(draws: np.random.Generator | Sequence | None = None) -> types.ModuleType:
    """Give the reference's module, to draw from what `reference` says."""
    module = _module()
    if draws is None:
        draws = np.random.default_rng(0)
    module._draws = _drawn(draws) if isinstance(draws, np.random.Generator) else Given(draws)
    return module


@cache
def _module() -> types.ModuleType:
    spec = importlib.util.find_spec("imagecorruptions")
    assert spec and spec.submodule_search_locations, "imagecorruptions is missing: run make setup"
    path = Path(spec.submodule_search_locations[0]) / "corruptions.py"
    source = path.read_text("utf-8")
    for old, new in MENDS:
        assert old in source, f"imagecorruptions is not release 1.1.2: no {old!r}"
        source = source.replace(old, new)
    module = types.ModuleType("mended_imagecorruptions")
    module.__file__ = str(path)
    exec(compile(source, str(path), "exec"), vars(module))
    return module

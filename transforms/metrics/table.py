"""All metrics in one table, and the sets of them that `--metrics` takes."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from transforms.metrics import colour_difference, errors, no_reference, structure

DEFAULT, ALL, NONE = "default", "all", "none"


class MetricError(ValueError):
    """Metrics that there are not, and what there is."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is known of a metric.

    Attributes:
        function: of a `Pair`, where it compares with a reference, else of a `Picture`; gives None
            where it is not defined. What it computes and whose it is, its docstring says.
        label: what people call it.
        digits: after the point that it deserves.
        unit: "" for a plain number.
        better: more, less, or nearer to zero; None where neither is better by itself.
        reference: whether it compares.
        regional: whether it is taken inside and outside a mask as well.
        smallest: the shortest side in pixels of an image that has it.
    """

    function: Callable[..., float | None]
    label: str
    digits: int
    unit: str = ""
    better: Literal["more", "less", "zero", None] = None
    reference: bool = True
    regional: bool = False
    smallest: int = 1

    @property
    def title(self) -> str:
        """The label with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def gain(self, before: float | None, after: float | None) -> float | None:
        """Give by how much the second score is better; None where none is better."""
        if self.better is None or before is None or after is None:
            return None
        if self.better == "more":
            return after - before
        return before - after if self.better == "less" else abs(before) - abs(after)


METRICS: dict[str, Metric] = {
    "mse": Metric(errors.mse, "MSE", 5, better="less", regional=True),
    "rmse": Metric(errors.rmse, "RMSE", 4, better="less", regional=True),
    "mae": Metric(errors.mae, "MAE", 4, better="less", regional=True),
    "psnr_rgb": Metric(errors.psnr_rgb, "PSNR", 2, "dB", better="more", regional=True),
    "psnr_y": Metric(errors.psnr_y, "PSNR of Y", 2, "dB", better="more", regional=True),
    "ssim": Metric(
        structure.ssim, "SSIM", 4, better="more", regional=True, smallest=structure.WINDOW
    ),
    "ms_ssim": Metric(
        structure.ms_ssim, "MS-SSIM", 4, better="more", smallest=structure.SMALLEST_MS_SSIM
    ),
    "gmsd": Metric(structure.gmsd, "GMSD", 4, better="less", smallest=structure.SMALLEST_GMSD),
    "ciede2000": Metric(colour_difference.ciede2000, "CIEDE2000", 2, better="less", regional=True),
    "ciede2000_p95": Metric(
        colour_difference.ciede2000_p95, "CIEDE2000, 95 %", 2, better="less", regional=True
    ),
    "chroma_error": Metric(
        colour_difference.chroma_error, "chroma error", 2, "CIE76", better="less", regional=True
    ),
    "colourfulness_difference": Metric(
        colour_difference.colourfulness_difference, "colourfulness difference", 2, better="zero"
    ),
    "colourfulness": Metric(no_reference.colourfulness, "colourfulness", 2, reference=False),
    "saturation": Metric(no_reference.saturation, "saturation", 4, reference=False),
    "contrast": Metric(no_reference.contrast, "contrast", 4, "RMS", reference=False),
    "noise_sigma": Metric(
        no_reference.noise_sigma,
        "noise sigma",
        2,
        reference=False,
        smallest=no_reference.SMALLEST_FILTERED,
    ),
    "sharpness": Metric(
        no_reference.sharpness,
        "sharpness",
        1,
        reference=False,
        smallest=no_reference.SMALLEST_FILTERED,
    ),
    "entropy": Metric(no_reference.entropy, "entropy", 3, "bits", reference=False),
    "clipped": Metric(no_reference.clipped, "clipped", 4, "share", reference=False),
}

SETS: dict[str, tuple[str, ...]] = {
    DEFAULT: ("mse", "psnr_rgb", "ssim", "colourfulness", "saturation", "contrast"),
    "colour": (
        "ciede2000",
        "ciede2000_p95",
        "chroma_error",
        "colourfulness_difference",
        "colourfulness",
        "saturation",
        "contrast",
    ),
    ALL: tuple(METRICS),
    NONE: (),
}


def choose(text: str, *, reference: bool) -> tuple[str, ...]:
    """Read a choice of metrics: names and sets, joined by commas.

    Args:
        text: such as `default,ciede2000`.
        reference: whether there is something to compare with. Without it sets are what remains of
            them, but a metric that is named and compares is an error.

    Returns:
        The names, each once, in the order of the table.

    Raises:
        MetricError: there is none of a name, or nothing that it could compare with.
    """
    chosen: set[str] = set()
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name in SETS:
            chosen.update(one for one in SETS[name] if reference or not METRICS[one].reference)
        elif name not in METRICS:
            raise MetricError(_unknown(name))
        elif METRICS[name].reference and not reference:
            usable = ", ".join(one for one, metric in METRICS.items() if not metric.reference)
            raise MetricError(
                f"--metrics {name} compares with an original, and there is none: use some of "
                f"{usable}, or `heliograph evaluate`"
            )
        else:
            chosen.add(name)
    return tuple(name for name in METRICS if name in chosen)


def _unknown(name: str) -> str:
    everything = [*SETS, *METRICS]
    near = difflib.get_close_matches(name, everything, n=3, cutoff=0.4)
    if near:
        return f"there is no metric {name!r}; the nearest are {', '.join(near)}"
    return f"there is no metric {name!r}; there are {', '.join(everything)}"

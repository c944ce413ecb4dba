"""Scores of images: pure functions, most of them of one image against another."""

from transforms.metrics.errors import mae, mse, psnr_rgb, psnr_y, rmse
from transforms.metrics.pair import Pair, Picture
from transforms.metrics.structure import gmsd, ms_ssim, ssim
from transforms.metrics.table import DEFAULT, METRICS, NONE, SETS, Metric, MetricError, choose

__all__ = [
    "DEFAULT",
    "METRICS",
    "NONE",
    "SETS",
    "Metric",
    "MetricError",
    "Pair",
    "Picture",
    "choose",
    "gmsd",
    "mae",
    "ms_ssim",
    "mse",
    "psnr_rgb",
    "psnr_y",
    "rmse",
    "ssim",
]

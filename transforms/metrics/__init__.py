"""Scores of one image against another."""

from transforms.metrics.full_reference import FULL_REFERENCE, mse, psnr, ssim

__all__ = ["FULL_REFERENCE", "mse", "psnr", "ssim"]

"""Scoreboards: how good each model is at each recipe, against doing nothing and the other models.

Read from `metrics.parquet` some rows at a time, whatever their number: see docs/evaluation.md.
"""

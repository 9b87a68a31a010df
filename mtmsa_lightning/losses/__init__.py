"""Losses that mask missing labels and return ``(sum, count)``."""

"""What counts as an image; imports nothing."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""Endings (lower case) of the files that count as images."""

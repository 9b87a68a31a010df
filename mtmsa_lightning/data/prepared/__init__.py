"""Prepared sets: faces cropped once, in files or one store of pixels."""

"""The margin around faces of canonical crops."""

CROP_MARGIN = 0.25
"""Default margin, in sides of the square of margin 0; see ``canonical.py``."""

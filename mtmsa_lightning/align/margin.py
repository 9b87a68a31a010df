"""The default margin of face crops."""

MARGIN = 0.25
"""Default margin of canonical crops, in sides of the square of margin 0; see ``canonical.py``."""

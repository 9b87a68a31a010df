"""The default margin of face crops."""

MARGIN = 0.25
"""Default margin of canonical crops, as a fraction of the side of the square of margin 0; see `canonical.py`."""

"""Face detection and alignment to a canonical position, without torch and pandas."""

MARGIN = 0.25
"""Default margin of canonical crops."""

"""Finding faces and bringing them to one canonical position; needs neither torch nor pandas."""

MARGIN = 0.25
"""Margin of canonical crops where nothing else is said."""

"""Face detection and alignment to a canonical position, without torch and pandas."""

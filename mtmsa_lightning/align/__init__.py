"""Finding faces and bringing them to one canonical position; needs neither torch nor pandas."""

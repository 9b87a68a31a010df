"""Split protocols, split files, cleaning rules and the check for overlap."""

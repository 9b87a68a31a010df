"""Protocols, split files, cleaning rules, and overlap between data sets."""

"""Helpers that know nothing of faces: files, locks, signals, processes, logging."""

"""Helpers without knowledge of faces: files, locks, signals, processes, logging."""

"""Checkpoints as files that other programs run: one module for each format, and the check that all pass."""

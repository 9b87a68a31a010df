"""Callbacks of a training: records, checkpoints, logs, predictions."""

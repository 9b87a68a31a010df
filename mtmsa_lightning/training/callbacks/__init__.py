"""What happens around training: records, checkpoints, logs, predictions."""

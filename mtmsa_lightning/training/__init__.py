"""Training and evaluation with the Lightning CLI."""

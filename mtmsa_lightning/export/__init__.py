"""Write checkpoints as files that other programs run: one module per format, and a parity check."""

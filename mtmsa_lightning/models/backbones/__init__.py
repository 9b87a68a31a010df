"""ResNet-34 with multi-scale attention."""

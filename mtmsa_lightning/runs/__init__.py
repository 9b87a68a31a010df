"""Run directories, their records and checkpoints, and folders of pretrained weights."""

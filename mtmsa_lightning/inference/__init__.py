"""Ages of faces in photos, by a checkpoint alone: no Trainer, no config."""

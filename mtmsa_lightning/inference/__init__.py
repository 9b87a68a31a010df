"""Prediction for faces in photos from a checkpoint, without Trainer and config."""

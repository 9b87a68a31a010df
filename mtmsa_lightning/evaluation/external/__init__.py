"""Predictions of other programs for the faces of a dataset."""

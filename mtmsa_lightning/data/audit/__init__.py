"""Checks of a dataset and its split: functions from a face table to a list of findings."""

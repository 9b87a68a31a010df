"""Calibration of predictions: its record, its fit, conformal intervals, and measures of it."""

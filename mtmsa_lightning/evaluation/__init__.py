"""Predictions turned into figures, tables and a report."""

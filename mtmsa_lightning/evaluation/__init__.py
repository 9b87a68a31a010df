"""Metrics of tables of predictions: intervals, comparisons, subgroups, folds."""

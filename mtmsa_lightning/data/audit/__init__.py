"""Checks of a dataset and its split, one module per kind of check.

A check is a function from a face table (and a split, or the result of scanning the images) to a list of
``findings.Finding``. ``findings.KINDS`` has the severity of every kind of finding.
"""

"""The sections of a report: each makes plots, writes tables, and adds both to the page.

A section without labels adds nothing.
"""

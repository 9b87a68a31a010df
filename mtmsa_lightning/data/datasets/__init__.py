"""Readers of releases and tables, one file each."""

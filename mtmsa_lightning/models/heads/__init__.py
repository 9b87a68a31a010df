"""Heads: classes, and age heads under one contract."""

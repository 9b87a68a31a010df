"""Trunks: published networks with multi-scale attention."""

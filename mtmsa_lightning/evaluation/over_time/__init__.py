"""Estimates of one person's photos over time: pairs of photos, and the person's share of the error."""

"""Datasets, split protocols, transforms and DataModules."""

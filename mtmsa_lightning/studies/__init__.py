"""Cross-validation and studies of several variants."""

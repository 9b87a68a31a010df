"""Classes of your own: one file each, to copy and change (docs/extending.md)."""

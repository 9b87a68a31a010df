"""From tables of predictions to figures that can be defended."""

"""From tables of predictions to metrics that can be defended."""

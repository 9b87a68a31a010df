"""Class heads and age heads."""

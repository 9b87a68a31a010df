"""Configuration files and the command line that refers to them."""

"""Configuration files, the command line that refers to them, and shared default values."""

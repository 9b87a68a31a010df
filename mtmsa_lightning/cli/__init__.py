"""The command line ``mtmsa``."""

"""The web page ``mtmsa app``: drop a photo, see what a checkpoint says of its faces."""

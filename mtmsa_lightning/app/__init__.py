"""The web page of ``mtmsa app``: predictions for the faces of a photo."""

"""What may be wrong with a dataset and its split: one small module per kind of check.

A check is a function of a face table (and a split, or what a scan of the images found) that returns findings
(``findings.Finding``). How grave a kind of finding is stands in one place, ``findings.KINDS``.
"""

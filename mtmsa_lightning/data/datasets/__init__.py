"""Readers and DataModules of releases and tables, one file each."""

CLASSES = {
    "morph": "MORPH", "adience": "Adience", "utkface": "UTKFace", "agedb": "AgeDB", "fgnet": "FGNET",
    "clap2016": "CLAP2016", "appa_real": "APPAREAL", "imdb_wiki": "IMDBWiki",
    "imdb_clean": "IMDBClean", "cacd2000": "CACD2000", "afad": "AFAD", "lagenda": "LAGENDA",
    "all_age_faces": "AllAgeFaces", "megaage_asian": "MegaAgeAsian",
    "fairface": "FairFace",
    "csv": "FaceCSV", "synthetic": "Synthetic",
}  # fmt: skip
"""DataModules by the name of their dataset."""

DATA = CLASSES | {"mixture": "Mixture"}
"""All DataModules by their name in ``--data``."""

RELEASES = tuple(name for name in CLASSES if name not in ("csv", "synthetic"))
"""Datasets with a reader in the module of that name, in the order in which they are recognised.

A module has ``FILES``, names of files that only this release has, or ``NAMES``, a regular expression of its
images' paths, and ``LAYOUT``, these in words; and ``TREE``, all files.
"""

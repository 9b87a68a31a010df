"""Readers and DataModules of releases and tables, one file each."""

CLASSES = {
    "morph": "MORPH", "adience": "Adience", "utkface": "UTKFace", "csv": "FaceCSV", "synthetic": "Synthetic",
}  # fmt: skip
"""DataModules by the name of their dataset."""

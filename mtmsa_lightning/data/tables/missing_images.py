"""The error for a table whose images do not exist."""

import posixpath
from pathlib import Path

from mtmsa_lightning._utils.text import shown
from mtmsa_lightning.data.release_files import ImageListing, expected_tree_error
from mtmsa_lightning.errors import DataError


def no_image_error(root: Path, table: str, texts: list[str], listing: ImageListing, tree: str) -> DataError:
    """Return the error that no image of a table exists, with an example and the image that may be meant.

    Args:
        root: Folder of the images.
        table: Name of the table.
        texts: The paths in the table.
        listing: The images below ``root``.
        tree: Expected layout.
    """
    example = f"such as {shown(texts[:1])}"
    if texts and "://" in texts[0]:
        example += ": images are files below the root, not URLs"
    elif meant := next((path for text in texts[:1] for path in listing if _same_name(text, path)), None):
        example += f": there is {shown([meant])}: paths are relative to the root and end with the suffix"
    return expected_tree_error(root, f"none of the {len(texts):,} images of {table} ({example})", tree)


def _same_name(text: str, path: str) -> bool:
    """Return whether a path in a table has the file name of an image, with or without the suffix."""
    name, wanted = (posixpath.basename(each.replace("\\", "/")).casefold() for each in (path, text))
    return wanted in (name, posixpath.splitext(name)[0])

"""Images without labels, for prediction."""

from pathlib import Path

import pandas as pd

from mtmsa_lightning.data.face_table import FaceTable, make_frame
from mtmsa_lightning.data.release_files import ImageListing, expected_tree_error, list_images, listing_report


def read_folder(root: str | Path) -> FaceTable:
    """Read all images below a folder as faces without labels.

    Args:
        root: The folder.

    Raises:
        DataError: There is no image.
    """
    root = Path(root)
    listing = list_images(root) if root.is_dir() else ImageListing(())
    if not len(listing):
        raise expected_tree_error(root, "no image", "<root>/ ... any folders ... images")
    rows = pd.DataFrame({"id": list(listing), "path": list(listing), "age_low": float("nan")})
    frame = make_frame(rows.assign(age_high=rows["age_low"]), "folder")
    return FaceTable(frame, root, "folder", "no labels", (), listing_report(listing, root))

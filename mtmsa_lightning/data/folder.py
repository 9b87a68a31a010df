"""Images without labels, for prediction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from mtmsa_lightning.data.datamodule import available_workers
from mtmsa_lightning.data.dataset import EvalSampler, FaceBatch, FaceDataset, face_loader
from mtmsa_lightning.data.files import IMAGE_SUFFIXES, expected_tree_error, list_images
from mtmsa_lightning.data.table import FaceTable, ReadReport, make_frame
from mtmsa_lightning.data.transforms import FaceTransform
from mtmsa_lightning.errors import DataError


class FaceFolder(LightningDataModule):
    """Files and folders of cropped faces.

    Args:
        paths: Image files, and folders that are searched for images.
        image_size: Side of the network's input in pixels.
        crop: Fraction of the images that is used, as in training.
        batch_size: Faces per step.
        num_workers: Loader processes.

    Attributes:
        predict_dataset: The faces found; ``id`` and ``path`` are the file as given.
        faults: Files that could not be read, with the reason, after prediction.

    Raises:
        DataError: If a path does not exist or no image is found.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        image_size: int,
        crop: float = 1.0,
        batch_size: int = 32,
        num_workers: int | None = None,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = available_workers() if num_workers is None else num_workers
        self.faults: dict[str, str] = {}
        transform = FaceTransform(image_size, crop)
        self.predict_dataset = FaceDataset(unlabelled_table(find_images(paths)), Path(), transform)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of this process, in order."""
        ranks = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = EvalSampler(self.predict_dataset, *ranks)
        return face_loader(self.predict_dataset, sampler, self.batch_size, self.num_workers)

    def on_before_batch_transfer(self, batch: FaceBatch, dataloader_idx: int) -> FaceBatch:
        """Note the files that could not be read."""
        self.faults |= {name: fault for name, fault in zip(batch["id"], batch["fault"], strict=True) if fault}
        return batch


def find_images(paths: Sequence[str | Path]) -> list[str]:
    """List image files: files as given (whatever their ending), images in folders, each file once.

    Raises:
        DataError: If a path does not exist or nothing is found.
    """
    found: dict[str, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found |= dict.fromkeys(str(path / name) for name in list_images(path))
        elif path.is_file():
            found[str(path)] = None
        else:
            raise DataError(f"{path}: no such file or folder")
    if not found:
        raise DataError(f"no image ({', '.join(sorted(IMAGE_SUFFIXES))}) in {', '.join(map(str, paths))}")
    return list(found)


def read_folder(root: str | Path) -> FaceTable:
    """Read all images below a folder as faces of which nothing is known.

    Args:
        root: The folder.

    Raises:
        DataError: There is no image.
    """
    root = Path(root)
    listing = list_images(root) if root.is_dir() else ()
    if not listing:
        raise expected_tree_error(root, "no image", "<root>/ ... any folders ... images")
    rows = pd.DataFrame({"id": list(listing), "path": list(listing), "age_low": float("nan")})
    frame = make_frame(rows.assign(age_high=rows["age_low"]), "folder")
    return FaceTable(frame, root, "folder", "no labels", (), ReadReport(str(root), read=len(frame)))


def unlabelled_table(files: Sequence[str]) -> pd.DataFrame:
    """Return a face table without labels."""
    table = pd.DataFrame({"id": files, "path": files, "subject": ""})
    table[["age_low", "age_high"]] = float("nan")
    table[["gender", "race"]] = -1
    return table

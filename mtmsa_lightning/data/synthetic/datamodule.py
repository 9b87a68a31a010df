"""DataModule of synthetic faces in MORPH's layout, drawn at first use."""

import logging
from typing import Any

from mtmsa_lightning.data.datasets.morph import MORPH
from mtmsa_lightning.data.map_style import ReleaseDataset
from mtmsa_lightning.data.prepared.format import is_prepared
from mtmsa_lightning.data.synthetic.releases import write_morph
from mtmsa_lightning.settings.defaults import SYNTHETIC_FACES

log = logging.getLogger(__name__)


class Synthetic(MORPH):
    """Synthetic faces, read by MORPH's reader.

    Args:
        n_faces: Number of images to draw, with a fixed seed.
        protocol: As on MORPH.
        crop: Side of the central square that is used; synthetic faces fill the image.
        **kwargs: See :class:`~mtmsa_lightning.data.datamodule.FaceDataModule`.
    """

    name = "synthetic"

    def __init__(
        self,
        *,
        n_faces: int = SYNTHETIC_FACES,
        protocol: str = "subject_exclusive",
        crop: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol=protocol, crop=crop, **kwargs)
        self.n_faces = n_faces

    def prepare_data(self) -> None:
        """Draw the faces unless they exist or the root is a prepared set."""
        if not is_prepared(self.root):
            if not self.root.exists():
                log.info("drawing %d synthetic faces: %s", self.n_faces, self.root)
            write_morph(self.root, self.n_faces)
        super().prepare_data()


class SyntheticDataset(ReleaseDataset):
    """Synthetic faces as a map-style dataset; see :class:`.ReleaseDataset`, :class:`Synthetic`."""

    datamodule = Synthetic

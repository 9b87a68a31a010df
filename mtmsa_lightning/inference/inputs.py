"""The inputs of a prediction in a fixed order: photos and faces of prepared sets, read when predicted."""

import copy
import hashlib
import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtmsa_lightning._utils.file_access import file_state, find_normalised
from mtmsa_lightning._utils.image_formats import READ, REMEDIES, told_format
from mtmsa_lightning._utils.images import Image, Photo, read_reduced
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.data.face_table import ReadReport
from mtmsa_lightning.data.prepared.format import (
    CROPS,
    is_prepared,
    locate_crops,
    preparation,
    read_description,
    read_frame,
)
from mtmsa_lightning.data.prepared.pixels import PixelStore, open_pixels
from mtmsa_lightning.data.release_files import list_images, read_delimited, sniff
from mtmsa_lightning.data.tables.boxes import USUAL, single_box_column
from mtmsa_lightning.errors import DataError
from mtmsa_lightning.inference.face import BOX
from mtmsa_lightning.inference.paths import TABLES, first_names, matches

log = logging.getLogger(__name__)


class Known(NamedTuple):
    """The record of a face of a prepared set: id, box (4,) as in ``FaceCrop``, and score; or NaN."""

    id: str
    box: NDArray[np.float64]
    score: float


class Input(NamedTuple):
    """One image to predict: a file, or a face of a prepared set, perhaps with decoded pixels.

    ``file`` is as given; ``path`` is the crop's path in its set.
    """

    file: str
    known: Known | None = None
    pixels: PixelStore | None = None
    path: str = ""

    def read(self) -> Image:
        """Return the image, RGB; raise UnreadableImageError if it is missing, damaged or not an image."""
        return self.read_photo().image

    def read_photo(self) -> Photo:
        """Return the image, with the factor by which a large one is reduced; errors as for :meth:`read`."""
        return read_reduced(self.file) if self.pixels is None else Photo(self.pixels.read(self.path))


class Photos(Sequence[Input]):
    """Image files, named as given."""

    def __init__(self, files: Sequence[str]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: Any) -> Any:
        return Input(self.files[row])

    def identities(self) -> Iterator[str]:
        """Yield name and size of every file, which are equal for copies on several machines."""
        return (f"{file}\t{file_state(file).partition(' ')[0]}" for file in self.files)

    def states(self) -> Iterator[str]:
        """Yield size and modification time of every file, to detect replaced ones."""
        return map(file_state, self.files)


class PreparedFaces(Sequence[Input]):
    """The faces of a prepared set or a shard of one, or some of them; DataError if the set is damaged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        record = read_description(root)
        frame = read_frame(root / record["table"])
        self.paths, self.ids = locate_crops(root, frame["path"].tolist()), frame["id"].tolist()
        self.files = [str(root / path) for path in self.paths]
        found = frame.reindex(columns=[*BOX, "score"]).astype("float64").to_numpy()  # NaN if missing
        self.boxes, self.scores = found[:, :4], found[:, 4]
        self.pixels = open_pixels(root)
        self.preparation: dict[str, Any] = preparation(root) or {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: Any) -> Any:
        known = Known(self.ids[row], self.boxes[row], float(self.scores[row]))
        return Input(self.files[row], known, self.pixels, self.paths[row])

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each crop by its path in the set."""
        return {path: row for row, path in enumerate(self.paths)}

    def chosen(self, files: Mapping[int, str]) -> "PreparedFaces":
        """Return the faces of some rows, in their order, with other names of their files."""
        part, rows = copy.copy(self), list(files)
        part.paths, part.ids = [self.paths[row] for row in rows], [self.ids[row] for row in rows]
        part.files = list(files.values())
        part.boxes, part.scores = self.boxes[rows], self.scores[rows]
        return part

    def identities(self) -> Iterator[str]:
        """Yield the fingerprint of the crops, then every path."""
        yield str(self.preparation.get("fingerprints", {}).get("crops"))
        yield from self.paths

    def states(self) -> Iterator[str]:
        """Yield size and modification time of every crop that is read from a file."""
        return map(file_state, [] if self.pixels is not None else self.files)


class Inputs(Sequence[Input]):
    """All images to predict, by position: photos and prepared sets, in the given order."""

    def __init__(self, blocks: Sequence[Photos | PreparedFaces]) -> None:
        self.blocks = blocks
        self._starts = [0, *accumulate(map(len, blocks))]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, position: Any) -> Any:
        if not 0 <= position < len(self):
            raise IndexError(position)
        block = bisect_right(self._starts, position) - 1
        return self.blocks[block][position - self._starts[block]]

    @property
    def prepared(self) -> list[PreparedFaces]:
        """The prepared sets among them."""
        return [block for block in self.blocks if isinstance(block, PreparedFaces)]

    @property
    def photos(self) -> int:
        """Number of photos."""
        return sum(len(block) for block in self.blocks if isinstance(block, Photos))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of names and sizes, in order."""
        return _digest(chain.from_iterable(block.identities() for block in self.blocks))

    @cached_property
    def state(self) -> str:
        """SHA-256 of sizes and modification times, to detect replaced files."""
        return _digest(chain.from_iterable(block.states() for block in self.blocks))


def find_inputs(paths: Iterable[str | Path]) -> Inputs:
    """Find the images of paths, each image once, in the given order.

    A ``.csv`` or ``.tsv`` file lists images in a column ``path``, relative to its folder; any other file is
    an image. A folder is searched for images, or is a prepared set. A pattern such as ``photos/**/*.jpg`` is
    expanded. Images that are crops of a prepared set are faces of it.

    Raises:
        DataError: A path does not exist, a table has no column ``path``, a prepared set is damaged, or
            nothing is found.
    """
    given = list(map(str, paths))
    sets = _PreparedSets()
    seen: set[tuple[Path | None, int | str]] = set()
    blocks: list[Photos | PreparedFaces] = []
    for faces, items in groupby(_items(given, sets), key=lambda item: item.faces):
        new = {}
        for _, name, file in items:
            key = (None if faces is None else faces.root.resolve(), name)
            if key not in seen:
                seen.add(key)
                new[name] = file
        if faces is None:
            blocks.append(Photos(list(new.values())))
        else:
            blocks.append(faces if list(new.values()) == faces.files else faces.chosen(new))
    inputs = Inputs([block for block in blocks if len(block)])
    if not len(inputs):
        raise DataError(f"no image ({', '.join(READ)}) in {', '.join(given)}")
    sets.log_found()
    return inputs


class _Item(NamedTuple):
    """An image: of a prepared set, with its row there, or any other, with its name; and its file as given."""

    faces: PreparedFaces | None
    name: Any
    file: str


def _items(given: Iterable[str], sets: "_PreparedSets") -> Iterator[_Item]:
    for path in chain.from_iterable(map(_matches, given)):
        if is_prepared(path):
            faces = sets.open(Path(path))
            yield from (_Item(faces, row, file) for row, file in enumerate(faces.files))
        else:
            yield from (sets.find(file) or _Item(None, file, file) for file in _photos(Path(path)))


class _PreparedSets:
    """The prepared sets of a prediction, each read once, and the crops of them that were given as files."""

    def __init__(self) -> None:
        self._opened: dict[Path, PreparedFaces] = {}
        self._root_of: dict[Path, Path | None] = {}  # by folder
        self._found: dict[Path, set[int]] = {}

    def open(self, root: Path) -> PreparedFaces:
        """Return the faces of a set."""
        real = root.resolve()
        if real not in self._opened:
            self._opened[real] = PreparedFaces(root)
        return self._opened[real]

    def find(self, file: str) -> _Item | None:
        """Return the face that a file is a crop of, if it is one in the folder ``crops`` of a set."""
        path = Path(file).absolute()
        folder = path.parent
        if folder not in self._root_of:
            above = (each.parent for each in path.parents if each.name == CROPS)
            self._root_of[folder] = next(filter(is_prepared, above), None)
        if (root := self._root_of[folder]) is None:
            return None
        faces = self.open(root)
        row = faces.rows.get(path.relative_to(root).as_posix())
        if row is None:
            return None
        self._found.setdefault(root, set()).add(row)
        return _Item(faces, row, file)

    def log_found(self) -> None:
        """Log how many single files are crops of which set."""
        for root, rows in self._found.items():
            crops = pluralize(len(rows), "file is a crop", "files are crops")
            log.info("%s of the prepared set %s: no face is looked for in them again", crops, root)


def _matches(path: str) -> list[str]:
    """Return the path itself or the matches of a pattern; log skipped files."""
    used, others = matches(path)
    kinds = {name: told_format(Path(name)) for name in others}
    _log_skipped(path, others, {name: kind for name, kind in kinds.items() if kind in REMEDIES})
    return used


def _log_skipped(where: str | Path, names: Sequence[str], unread: Mapping[str, str]) -> None:
    """Log skipped files, with the remedy for those in a known format (``unread``)."""
    rest = [name for name in names if name not in unread]
    if rest:
        kind = pluralize(len(rest), "file that is not an image", "files that are not images")
        log.info("%s: skipped %s: %s", where, kind, first_names(rest))
    for kind in sorted({*unread.values()}):
        of_kind = [name for name, theirs in unread.items() if theirs == kind]
        files = pluralize(len(of_kind), "file")
        log.warning("%s: skipped %s (%s: %s): %s", where, files, kind, REMEDIES[kind], first_names(of_kind))


def _photos(path: Path) -> list[str]:
    """Return the photos of a path that is not a prepared set."""
    if path.is_dir():
        listing = list_images(path)
        found = [str(path / name) for name in listing]
        if not found:
            log.warning("%s: there is no image in it", path)
        _log_skipped(path, [*listing.others, *listing.irregular], listing.unread)
        return found
    return _listed(path) if path.suffix.lower() in TABLES else [str(path)]


def _listed(table: Path) -> list[str]:
    """Return the images of a table; missing ones are detected when they are read."""
    rows = read_delimited(table, sniff(table)[0], ["path"], ReadReport(str(table)))
    names = [name for name in rows["path"].str.strip() if name]
    if not names:
        raise DataError(f"{table}: the column `path` is empty")
    header = {str(name).lower() for name in rows}
    if any(header >= {*theirs} for _, theirs in USUAL) or single_box_column([*header]):
        log.warning(
            "%s: its face boxes are not used: predict on the set that `mtmsa prepare` makes of the table, or "
            "find the faces by --detect true", table,
        )  # fmt: skip
    folders: dict[Path, dict[str, str]] = {}
    return [str(find_normalised(table.parent / name, folders)) for name in names]


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()

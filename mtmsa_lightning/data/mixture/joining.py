"""Joining of the tables, splits and class names of several datasets."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtmsa_lightning.align.box import BOX
from mtmsa_lightning.data.face_table import SCHEMA, SPLITS, FaceTable, ReadReport
from mtmsa_lightning.data.release_files import hash_lines
from mtmsa_lightning.data.splits.split import PARTS, Split, fingerprint, shared_fraction
from mtmsa_lightning.labels import class_key

MIXTURE = "mixture"
"""Name of a mixture as dataset and as protocol."""


def unite(vocabularies: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return all class names, each once by ``labels.class_key``, in the order in which they first appear.

    >>> unite([("white", "black"), ("Black", "East Asian"), ("east_asian",)])
    ('white', 'black', 'East Asian')
    """
    names: dict[str, str] = {}
    for vocabulary in vocabularies:
        for name in vocabulary:
            names.setdefault(class_key(name), name)
    return tuple(names.values())


def common_root(roots: Iterable[Path]) -> Path:
    """Return the deepest folder that contains all of these."""
    return Path(os.path.commonpath([str(root.absolute()) for root in roots]))


def join_tables(tables: Mapping[str, FaceTable], race_classes: Sequence[str]) -> FaceTable:
    """Join the tables of several sources, in order.

    Args:
        tables: The tables by the name of their source.
        race_classes: The united race names.

    Returns:
        A table with the columns of the schema, of face boxes and, if all sources have it, ``content``. The
        column ``dataset`` has the name of the source, which is also put before each subject; paths are
        relative to the common root.
    """
    root = common_root(table.root for table in tables.values())
    frames = [_renamed(name, table, root, race_classes) for name, table in tables.items()]
    extra = [*BOX] if any(set(BOX) <= set(frame) for frame in frames) else []
    extra += [name for name in ("apparent_age", "apparent_std") if any(name in frame for frame in frames)]
    extra += ["content"] if all("content" in frame for frame in frames) else []
    frames = [frame.reindex(columns=[*SCHEMA, *extra]) for frame in frames]
    reports = [table.report for table in tables.values()]
    report = ReadReport(MIXTURE, sum(each.read for each in reports))
    for each in reports:
        report.dropped += each.dropped
        report.notes += each.notes
    rules = "; ".join(f"{name}: {table.label_rule}" for name, table in tables.items())
    cleaning = tuple(f"{name}: {rule}" for name, table in tables.items() for rule in table.cleaning)
    joined = pd.concat(frames, ignore_index=True)
    return FaceTable(joined, root, MIXTURE, rules, tuple(race_classes), report, cleaning)


def _renamed(name: str, table: FaceTable, root: Path, race_classes: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a source with united classes, paths from the common root and named subjects."""
    keys = [*map(class_key, race_classes)]
    race = np.array([*(keys.index(class_key(each)) for each in table.race_classes), -1], np.int64)
    folder = table.root.absolute().relative_to(root).as_posix()
    frame, subject = table.frame, table.frame["subject"]
    return frame.assign(
        path=frame["path"] if folder == "." else f"{folder}/" + frame["path"],
        race=race[frame["race"].to_numpy()],
        subject=subject.where(subject == "", f"{name}/" + subject),
        dataset=pd.Series(name, frame.index, dtype="str"),
    )


def join_splits(splits: Mapping[str, Split], tables: Mapping[str, FaceTable], seed: int) -> Split:
    """Join the splits of several sources into one of their joined table.

    The fingerprints of parts are those of the joined ids; those of labels and cleaning are hashes of the
    sources' own.
    """
    starts = starts_of(tables)
    rows: dict[str, Any] = {
        part: np.concatenate([getattr(split, part) + starts[name] for name, split in splits.items()])
        for part in PARTS
    }
    ids = np.concatenate([table.frame["id"].to_numpy(object) for table in tables.values()])
    parts = [part for part in PARTS if part in SPLITS or len(rows[part])]
    prints = {part: fingerprint(ids[rows[part]]) for part in parts}
    for key in ("labels", "cleaning"):
        lines = [
            f"{name}\t{each.fingerprints[key]}" for name, each in splits.items() if key in each.fingerprints
        ]
        prints |= {key: hash_lines(lines)} if lines else {}
    notes = [
        f"{name}: protocol {each.protocol}, fold {each.fold}, seed {each.seed}"
        for name, each in splits.items()
    ]
    notes += [f"{name}: {note}" for name, each in splits.items() for note in each.notes]
    return Split(
        MIXTURE,
        0,
        seed,
        **rows,
        fingerprints=prints,
        subjects_in_two_parts=shared_fraction(
            [each.subjects_in_two_parts for each in splits.values()],
            [len(each.test) for each in splits.values()],
        ),
        notes=tuple(notes),
    )


def starts_of(tables: Mapping[str, FaceTable]) -> dict[str, int]:
    """Return the first row of every source in the joined table."""
    ends = np.cumsum([len(table) for table in tables.values()]).tolist()
    return dict(zip(tables, [0, *ends], strict=False))

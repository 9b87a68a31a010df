"""Labels of faces as columns of a table of predictions."""

from typing import Any

import pandas as pd


def face_labels(faces: pd.DataFrame, data: Any, joined: bool = False) -> pd.DataFrame:
    """Return ``id, file, subject, label_age_low, label_age_high, label_gender, label_race``, classes by name.

    ``label_apparent_age`` and ``label_apparent_std`` follow if the faces have the guesses of people.

    Args:
        faces: Rows of a face table.
        data: Its DataModule, with the names of the classes.
        joined: Whether the faces are of several datasets; ``dataset`` is then the second column.
    """
    known = faces[["id", "path"]].rename(columns={"path": "file"})
    if joined:
        known.insert(1, "dataset", faces["dataset"])
    labels = faces[["subject", "age_low", "age_high"]].rename(columns=lambda name: f"label_{name}")
    labels = labels.rename(columns={"label_subject": "subject"})
    votes = [name for name in ("apparent_age", "apparent_std") if name in faces]
    labels = labels.join(faces[votes].add_prefix("label_"))
    for task, names in (("gender", data.gender_classes), ("race", data.race_classes)):
        labels[f"label_{task}"] = [names[index] if index >= 0 else "" for index in faces[task]]
    return pd.concat([known, labels], axis=1)

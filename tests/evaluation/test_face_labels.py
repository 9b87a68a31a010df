from types import SimpleNamespace

import pandas as pd

from mtmsa_lightning.evaluation.face_labels import face_labels


def test_guesses_of_people_stand_beside_the_labels():
    faces = pd.DataFrame({
        "id": ["a", "b"], "path": ["a.jpg", "b.jpg"], "subject": ["", "x"], "age_low": [3.0, 4.0],
        "age_high": [3.0, 4.0], "gender": [0, -1], "race": [-1, -1],
    })  # fmt: skip
    data = SimpleNamespace(gender_classes=("male", "female"), race_classes=())
    plain = face_labels(faces, data)
    assert [name for name in plain if name.startswith("label_a")] == ["label_age_low", "label_age_high"]
    guessed = face_labels(faces.assign(apparent_age=[3.4, 4.1], apparent_std=[0.0, 1.5]), data)
    assert guessed["label_apparent_age"].tolist() == [3.4, 4.1]
    assert guessed["label_apparent_std"].tolist() == [0.0, 1.5]
    assert guessed["label_gender"].tolist() == ["male", ""]

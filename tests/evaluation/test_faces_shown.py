import torch

from mtmsa_lightning.evaluation.predictions import read_predictions
from mtmsa_lightning.evaluation.shown_faces import faces_to_look_at


def test_groups_err_by_the_distance_to_their_nearest_end(simulated):
    table = simulated(3, groups=True).assign(
        label_age_low=[25.0, 25.0, 25.0], label_age_high=[32.0, 32.0, 32.0],
        age_mean=[36.0, 30.0, 20.0], age_std=[3.0, 2.0, 1.0],
    )  # fmt: skip
    chosen = faces_to_look_at(read_predictions(table))
    assert chosen["worst"]["error"].tolist() == [5.0, 4.0, 0.0]
    assert chosen["best"]["id"].tolist() == ["set/0001.jpg", "set/0000.jpg", "set/0002.jpg"]
    assert set(chosen["best"]["label"]) == {"25-32"}


def test_of_equal_errors_the_surest_face_goes_first(simulated):
    table = simulated(3).assign(
        label_age_low=30.0, label_age_high=30.0, age_mean=[33.0, 27.0, 33.0], age_std=[4.0, 2.0, 3.0]
    )
    chosen = faces_to_look_at(read_predictions(table), count=2)
    assert chosen["best"]["std"].tolist() == chosen["worst"]["std"].tolist() == [2.0, 3.0]
    assert chosen["most uncertain"]["std"].tolist() == [4.0, 3.0]


def test_unlabelled_faces_can_be_uncertain_only(simulated):
    table = simulated(20)  # the last two have no label
    table.loc[19, "age_std"] = 99.0
    chosen = faces_to_look_at(read_predictions(table), count=20)
    assert len(chosen["best"]) == len(chosen["worst"]) == 18
    assert chosen["most uncertain"]["label"].iloc[0] == "unknown"
    assert torch.tensor(chosen["most uncertain"]["error"].iloc[0]).isnan()

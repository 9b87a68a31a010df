import torch

from mtmsa_lightning.checkpoints import read_checkpoint


def test_classes_that_moved_are_read_by_the_name_that_stays(tmp_path):
    heads = {
        "age": {"class_path": "mtmsa_lightning.models.heads.GaussianAgeHead", "init_args": {"beta": 0.5}},
        "gender": {"class_path": "mtmsa_lightning.models.heads.ClassHead", "init_args": {}},
        "race": None,
    }
    torch.save({"hyper_parameters": heads | {"weights": None}, "state_dict": {}}, tmp_path / "old.ckpt")
    read = read_checkpoint(tmp_path / "old.ckpt")["hyper_parameters"]
    assert read["age"] == {"class_path": "mtmsa_lightning.GaussianAgeHead", "init_args": {"beta": 0.5}}
    assert read["gender"]["class_path"] == "mtmsa_lightning.ClassHead"
    assert read["race"] is None

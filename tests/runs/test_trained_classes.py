import pytest
import torch

from mtmsa_lightning.evaluation.prediction_columns import prediction_columns
from mtmsa_lightning.export.formats import Precision
from mtmsa_lightning.export.metadata import describe_export
from mtmsa_lightning.export.network import named_outputs
from mtmsa_lightning.models.class_mapping import ClassMapping

OWN = ("East Asian", "Latino_Hispanic", "Black", "White")


@pytest.fixture
def model(new_network):
    model = new_network(race_classes=OWN)
    model.provenance |= {"trained_classes": {"gender": ["male", "female"], "race": ["White", "East Asian"]}}
    return model


def test_a_class_without_training_faces_is_never_predicted(model):
    assert model.trained_classes == {"gender": ("male", "female"), "race": ("East Asian", "White")}
    images = torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        output, exported = model(images), named_outputs(model, images)
    wanted = output.race[:, [0, 3]].double().softmax(1)
    columns = prediction_columns(model, output)
    assert [name for name in columns if name.startswith("race_")] == ["race_East Asian", "race_White"]
    torch.testing.assert_close(columns["race_White"], wanted[:, 1])
    torch.testing.assert_close(exported["race_probs"].double(), wanted, atol=1e-6, rtol=0)
    about = describe_export(model, list(exported), Precision.FP32, True)
    assert about["classes"]["race_probs"] == about["race_classes"] == ["East Asian", "White"]


def test_a_class_without_training_faces_is_not_trained(model):
    model.class_mappings = {"race": ClassMapping(OWN, OWN, ["White", "East Asian"])}
    output, nothing = model(torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)), torch.full((2,), -1)
    ages = torch.full((2,), torch.nan)
    batch = {"age_low": ages, "age_high": ages, "gender": nothing, "race": torch.tensor([0, 3])}
    model.losses(output, batch)["race"][0].backward()
    moved = model.race.linear.weight.grad.abs().sum(1) > 0
    assert moved.tolist() == [True, False, False, True]


def test_all_classes_are_predicted_where_the_record_does_not_name_them(model):
    model.provenance.pop("trained_classes")
    assert model.trained_classes["race"] == OWN
    model.provenance = None
    assert model.trained_classes["race"] == OWN

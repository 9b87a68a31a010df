import torch

from mtmsa_lightning.models.class_mapping import ClassMapping

UTKFACE = ("white", "black", "asian", "indian", "other")
MORPH = ("white", "black", "asian", "hispanic", "other")


def test_labels_are_matched_by_name_and_masked_where_the_model_lacks_them():
    labels = torch.tensor([0, 1, 2, 3, 4, -1])
    assert ClassMapping(MORPH, UTKFACE).labels(labels).tolist() == [0, 1, 2, -1, 4, -1]
    assert ClassMapping(("other", "white"), UTKFACE).labels(torch.tensor([0, 1, -1])).tolist() == [4, 0, -1]
    assert ClassMapping(MORPH, MORPH).labels(labels) is labels


def test_a_class_that_the_data_lacks_is_never_the_answer():
    mapping = ClassMapping(MORPH, UTKFACE)
    assert (mapping.unknown, mapping.absent) == (("hispanic",), ("indian",))
    logits = torch.tensor([[0.0, 1.0, 2.0, 9.0, 3.0]])
    probs = mapping.logits(logits).softmax(1)
    assert probs[0, 3] == 0
    torch.testing.assert_close(probs[0, [0, 1, 2, 4]], torch.tensor([0.0, 1.0, 2.0, 3.0]).softmax(0))


def test_data_without_classes_masks_nothing():
    logits = torch.randn(2, 5)
    mapping = ClassMapping((), UTKFACE)
    assert mapping.common == ()
    assert mapping.logits(logits) is logits
    assert mapping.labels(torch.tensor([-1, -1])).tolist() == [-1, -1]

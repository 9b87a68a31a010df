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


def test_classes_with_training_faces_are_learnt():
    assert ClassMapping(MORPH, UTKFACE).learnt is None
    assert ClassMapping(MORPH, UTKFACE, ["Asian", "white"]).learnt == (0, 2)


def test_names_are_compared_without_case_blanks_and_signs():
    mapping = ClassMapping(("East Asian", "WHITE"), ("white", "east_asian", "black"))
    assert mapping.labels(torch.tensor([0, 1, -1])).tolist() == [1, 0, -1]
    assert (mapping.unknown, mapping.absent) == ((), ("black",))
    spelt = ClassMapping(("White", "East Asian"), ("white", "east-asian"))
    labels = torch.tensor([0, 1])
    assert spelt.labels(labels) is labels


def test_a_class_without_training_faces_counts_as_one_that_the_model_lacks():
    mapping = ClassMapping(("a", "b", "c"), ("a", "b", "c"), trained=("a", "c"))
    assert (mapping.unknown, mapping.absent, mapping.common) == (("b",), (), ("a", "c"))
    assert mapping.labels(torch.tensor([0, 1, 2, -1])).tolist() == [0, -1, 2, -1]
    assert mapping.logits(torch.zeros(1, 3)).softmax(1).tolist() == [[0.5, 0, 0.5]]


def test_labels_of_a_common_class_are_found():
    mapping = ClassMapping(("a", "b", "c"), ("A", "B"), trained=("B",))
    assert [mapping.any_common(labels) for labels in ([0, 2, -1], [], [1], [0, 1])] == [
        False, False, True, True,
    ]  # fmt: skip

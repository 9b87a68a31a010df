import pytest

from mtmsa_lightning.wording import counted


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 faces"), (1, "1 face"), (2, "2 faces"), (1197, "1,197 faces")]
)
def test_a_noun_is_in_the_plural_where_there_is_not_one(number, said):
    assert counted(number, "face") == said

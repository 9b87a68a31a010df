import pytest

from mtmsa_lightning.wording import counted


@pytest.mark.parametrize(
    ("number", "nouns", "said"),
    [
        (0, ["face"], "0 faces"),
        (1, ["face"], "1 face"),
        (2, ["face"], "2 faces"),
        (1234, ["face"], "1,234 faces"),
        (1, ["part is", "parts are"], "1 part is"),
        (3, ["part is", "parts are"], "3 parts are"),
    ],
)
def test_a_number_stands_with_the_right_form_of_its_noun(number, nouns, said):
    assert counted(number, *nouns) == said

import logging
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning._utils.images import UnreadableImageError
from mtmsa_lightning._utils.logs import to_console
from mtmsa_lightning._utils.text import pluralize, shown
from mtmsa_lightning.errors import (
    LONGEST_LINE,
    LONGEST_MESSAGE,
    MOST_LINES,
    ConfigError,
    DataError,
    shorten,
    shorten_message,
)


@pytest.mark.parametrize(
    ("number", "nouns", "said"),
    [
        (0, ["face"], "0 faces"),
        (1, ["face"], "1 face"),
        (2, ["face"], "2 faces"),
        (1234, ["face"], "1,234 faces"),
        (1.0, ["year"], "1 year"),
        (2.5, ["year"], "2.5 years"),
        (1, ["part is", "parts are"], "1 part is"),
        (3, ["part is", "parts are"], "3 parts are"),
    ],
)
def test_a_number_stands_with_the_right_form_of_its_noun(number, nouns, said):
    assert pluralize(number, *nouns) == said


@given(st.text(max_size=3000) | st.integers(0, 10**6).map(lambda n: "x" * n))
def test_a_shortened_message_is_short_and_keeps_its_ends(text):
    short = shorten_message(text)
    assert len(short) <= LONGEST_MESSAGE
    assert short.count("\n") < MOST_LINES
    assert all(len(line) <= LONGEST_LINE for line in short.split("\n"))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", short)
    short.encode()  # can be written anywhere
    assert shorten_message(short) == short
    if len(text) <= LONGEST_LINE and text.isprintable():
        assert short == text


def test_what_is_long_loses_its_middle():
    short = shorten("file.csv: " + "x" * 10**6 + ": copy it again")
    assert re.fullmatch(r"file\.csv: x+ \.\.\.\[1,000,025 characters\]\.\.\. x+: copy it again", short)
    assert len(short) == LONGEST_LINE
    lines = shorten_message("\n".join(str(n) for n in range(1000))).split("\n")
    assert (len(lines), lines[-2:]) == (100, ["... (901 lines more)", "999"])


def test_values_are_quoted_a_few_of_them():
    assert shown(["a\x1b[2J", "b"]) == r"'a\x1b[2J', 'b'"
    assert shown(range(1000), 2) == "0, 1, ... (1,000 in all)"
    assert len(shown(["x" * 10**6] * 100)) < 1000


@pytest.mark.parametrize("kind", [DataError, ConfigError, UnreadableImageError])
def test_every_error_is_short(kind):
    error = kind("table.csv: " + "\n" * 10**6 + "x" * 10**6)
    assert len(str(error)) <= LONGEST_MESSAGE
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_logged_messages_are_short(capsys):
    to_console()
    logging.getLogger("mtmsa_lightning.data").warning("skipped %s", "x" * 10**6)
    said = capsys.readouterr().out
    assert said.startswith("skipped xxx")
    assert len(said) <= LONGEST_LINE + 1


def test_a_table_of_results_is_shown_whole(capsys):
    to_console()
    logging.getLogger("mtmsa_lightning.evaluation").info("%s", "\n".join(f"fold {n}" for n in range(500)))
    assert capsys.readouterr().out.splitlines() == [f"fold {n}" for n in range(500)]

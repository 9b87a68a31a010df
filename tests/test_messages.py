from argparse import ArgumentError

from mtmsa_lightning.messages import explain, suggest

KNOWN = {"fold", "max_epochs", "rates", "model", "UTKFace"}


def test_errors_that_are_not_the_users_keep_their_traceback():
    assert explain(RuntimeError("shapes differ"), KNOWN) is None


def test_a_message_keeps_the_key_and_drops_the_parsers_dump():
    text = (
        'Parser key "trainer.max_epochs":\n  Does not validate against any of the Union subtypes\n'
        "  Subtypes: [<class 'int'>, <class 'NoneType'>]\n  Errors:\n    - Expected a <class 'int'>\n"
        "    - Expected a <class 'NoneType'>\n  Given value type: <class 'str'>\n  Given value: abc"
    )
    assert explain(ArgumentError(None, text), KNOWN) == (
        'Parser key "trainer.max_epochs":\n  expected int\n  Given value: abc'
    )


def test_no_hint_where_nothing_is_near():
    assert suggest("Option 'xyzzy' is not accepted", KNOWN) is None


def test_where_nothing_is_near_help_is_named():
    message = explain(ArgumentError(None, "unrecognized arguments: --model.zzz 3"), ["model", "race"])
    assert message is not None
    assert "`mtmsa VERB --help` lists all arguments" in message

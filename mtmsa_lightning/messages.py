"""Turning what the argument parser and the Trainer raise into one short message that says what to do."""

import re
from argparse import ArgumentError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from mtmsa_lightning.errors import ConfigError, MTMSAError
from mtmsa_lightning.wording import install

UNKNOWN = (
    re.compile(r"Option '([^']+)' is not accepted"),
    re.compile(r"does not accept option '([^']+)'"),
    re.compile(r"unrecognized arguments: --([^\s=]+)"),
    re.compile(r"[Kk]ey '([^']+)' is not expected"),
    re.compile(r"does not accept nested key '([^']+)'"),
    re.compile(r"module '\w+' has no attribute '([^']+)'"),
    re.compile(r"Given value: (\w+)$"),
)
"""How the parser says that it does not know a name."""

NOISE = re.compile(
    r"^\s*(Does not validate against any|Subtypes:|Errors:|Given value type:|- Expected a <class 'NoneType'>)"
)
NO_DATA = "name a config, e.g. `--config morph.yaml`, or a DataModule, e.g. `--data FaceCSV`"
"""What is missing where nothing says what faces to use."""

SECTIONS = ("trainer", "model", "data")
TOO_LONG = 200


def explain(error: Exception, known: Iterable[str]) -> str | None:
    """Return a short message for an error of the command line or configuration.

    Args:
        error: What was raised.
        known: Names that could have been meant.

    Returns:
        The message, or None if the error is something else and deserves its traceback.
    """
    text = str(error)
    if not (isinstance(error, ArgumentError) or _misconfigured(error) or "Union subtypes" in text):
        return None
    lines = [_shorten(line) for line in text.splitlines() if line.strip() and not NOISE.match(line)]
    given = [line for line in lines if line.strip().startswith("Given value:")]
    lines = [line for line in lines if line not in given]
    if given and all("expected" in line for line in lines[1:]) and "Namespace" not in given[0]:
        lines += given
    hint = suggest(text, known)
    if not hint and "unrecognized arguments" in text:
        hint = "`mtmsa VERB --help` lists all arguments of a verb"
    return "\n".join([*lines, hint] if hint else lines)


@contextmanager
def told_shortly() -> Iterator[None]:
    """Turn what constructors raise for a value that they refuse into one short message.

    Raises:
        ConfigError: In place of a ValueError, TypeError or Lightning's MisconfigurationException; and of a
            package that is not installed.
    """
    try:
        yield
    except Exception as error:
        refused = isinstance(error, ValueError | TypeError | ModuleNotFoundError) or _misconfigured(error)
        if refused and "`tensorboard`" in str(error):
            raise ConfigError(f"TensorBoard is not installed: {install('tensorboard')}") from error
        if isinstance(error, MTMSAError) or not refused:
            raise
        raise ConfigError(explain(error, ()) or str(error)) from error


def _misconfigured(error: Exception) -> bool:
    return type(error).__name__ == "MisconfigurationException"


def _shorten(line: str) -> str:
    """Drop the parser's dump of whole objects and its spelling of types."""
    line = re.sub(r"^\s*- ", "  ", line)
    line = re.sub(r"\.? Got value: Namespace\(.*$", "", line)
    line = re.sub(r"Type \S*Callable\[.*?\] expects a function or a callable class: ", "", line)
    line = re.sub(r"<class '([\w.]+)'>", r"\1", line)
    line = re.sub(r"typing\.Literal(\[.*?\])", r"one of \1", line)
    line = line.replace("Expected a one of", "expected one of").replace("Expected a ", "expected ")
    return line if len(line) <= TOO_LONG or "dilat" in line else f"{line[:TOO_LONG]} ..."


def suggest(text: str, known: Iterable[str]) -> str | None:
    """Return a hint with the nearest known name for a name that a message complains about."""
    names = sorted(set(known))
    if re.search(r"required: \w+\.data", text):
        return NO_DATA
    for pattern in UNKNOWN:
        for unknown in pattern.findall(text):
            for part in unknown.split("."):
                pool = SECTIONS if get_close_matches(part, SECTIONS, n=1, cutoff=0.8) else names
                near = [] if part in names else get_close_matches(part, pool, n=1, cutoff=0.7)
                if near:
                    return f"did you mean {near[0]!r} instead of {part!r}?"
    return None

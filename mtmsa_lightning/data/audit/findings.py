"""Findings of an audit, and the severity of each kind."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

SHOWN = 10
"""Maximum number of examples of a finding."""

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


class Kind(NamedTuple):
    """A kind of finding: severity, meaning and remedy."""

    severity: Severity
    meaning: str
    remedy: str


_WITHOUT_COPIES = "--data.clean [drop-duplicates]"
_WITHOUT_CONFLICT = "--data.clean [drop-conflicting]"
_ONE_BIRTH_DATE = "--data.clean [morph:consensus-birthdate]"

_ERRORS = {  # a metric would be wrong, or a label or file is
    "split": (
        "the protocol cannot be applied to these faces",
        "choose another protocol, or correct the table",
    ),
    "subject-leak": (
        "a subject is in test and in training, by a protocol that keeps subjects apart or a predefined list",
        "correct the list, or use the protocol subject_exclusive",
    ),
    "copy-leak": ("an exact copy (equal bytes) of a test image is in training", _WITHOUT_COPIES),
    "conflicting-labels": ("exact copies of one picture carry different labels", _WITHOUT_CONFLICT),
    "unreadable": ("an image file cannot be decoded", "copy the file again, or remove its row"),
}
_WARNINGS = {  # known kinds of noise, and reasons for metrics that are too good
    "subject-shared": (
        "a subject is in test and in training, as the protocol allows",
        "report it with the metric, or use the protocol subject_exclusive",
    ),
    "near-leak": ("a near-duplicate of a test image is in training", "look at the pairs"),
    "near-conflict": ("near-duplicates differ in gender or race, or by over 5 years", "look at the pairs"),
    "copy-validation": ("an exact copy of a validation or calibration image is in training", _WITHOUT_COPIES),
    "copies": ("exact copies within one part count several times", _WITHOUT_COPIES),
    "birth-date": ("a subject's birth date differs between its pictures", _ONE_BIRTH_DATE),
    "gender": ("a subject's gender differs between its pictures", "--data.clean [consensus-gender]"),
    "race": ("a subject's race differs between its pictures", "--data.clean [consensus-race]"),
    "double-block": (
        "a subject's pictures stand twice, with equal ages and opposite gender",
        "--data.clean [consensus-gender], and look at the pairs",
    ),
    "near-names": (
        "two subjects with neighbouring pictures have nearly the same name",
        "if they are one person, rename the files",
    ),
    "age-falls": ("a subject's age falls while the date of the picture rises", _ONE_BIRTH_DATE),
    "age-dates": ("an age is not the number of completed years from birth to picture", "look at the dates"),
    "tiny": ("an image is smaller than a stated side", "choose an image size that fits"),
    "sideways": (
        "the face of an image lies on its side or upside down",
        "turn the images, or train on the set that `mtmsa prepare` makes: it turns them",
    ),
    "faceless": ("a detector finds no face in the image", "look at the images"),
    "release": ("a count differs from the published release", "compare your copy with the release"),
}
_INFOS = {  # worth a look
    "near-copies": ("near-duplicates that no fold separates", ""),
    "photo-gender": (
        "the number of a photo carries faces of both genders",
        "do not use it as a subject",
    ),
    "same-pictures": (
        "another dataset holds the same pictures",
        "do not train on one and test on the other",
    ),
    "blurred": ("an image has little detail: blurred, dark, or scaled up", ""),
    "dropped": ("the reader, or the preparation, skipped rows", ""),
}

KINDS: dict[str, Kind] = {
    name: Kind(severity, *texts)
    for severity, kinds in zip(SEVERITIES, (_ERRORS, _WARNINGS, _INFOS), strict=True)
    for name, texts in kinds.items()
}
"""All kinds of findings, most severe first. Errors make the exit status 1."""


@dataclass(frozen=True)
class Finding:
    """A finding of a check.

    Attributes:
        kind: A key of ``KINDS``.
        count: Number of faces, pairs, groups or subjects (see ``text``).
        text: Description with the numbers.
        examples: The first few as texts.
        groups: The faces as groups of row positions, most important first.
    """

    kind: str
    count: int
    text: str
    examples: tuple[str, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()

    @property
    def severity(self) -> Severity:
        """Severity of its kind."""
        return KINDS[self.kind].severity

    def record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "count": self.count,
            "text": self.text,
            "meaning": KINDS[self.kind].meaning,
            "remedy": KINDS[self.kind].remedy,
            "examples": list(self.examples),
        }


def found(
    kind: str,
    what: str,
    examples: Sequence[str],
    groups: Iterable[Iterable[int]] = (),
    count: int | None = None,
    detail: str = "",
) -> list[Finding]:
    """Return a list of one finding, or an empty list without examples.

    Args:
        kind: A key of ``KINDS``.
        what: Plural of what is counted, e.g. "images that cannot be decoded".
        examples: A text for each.
        groups: See :class:`Finding`.
        count: The number, by default that of the examples.
        detail: Text after the number.
    """
    if not examples:
        return []
    count = len(examples) if count is None else count
    rows = tuple(tuple(int(row) for row in group) for group in groups)
    return [Finding(kind, count, f"{what}: {count:,}{detail}", tuple(examples[:SHOWN]), rows)]


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings in the order of ``KINDS``, most severe first."""
    order = list(KINDS)
    return sorted(findings, key=lambda finding: order.index(finding.kind))


def has_errors(findings: Iterable[Finding]) -> bool:
    """Return whether any finding is an error."""
    return any(finding.severity == "error" for finding in findings)


def tally(findings: Sequence[Finding]) -> dict[Severity, int]:
    """Count the findings by severity."""
    return {name: sum(finding.severity == name for finding in findings) for name in SEVERITIES}


def kinds_as_text() -> str:
    """Return the kinds by severity, for the help of the command."""
    return "\n".join(f"  {kind.severity:<9}{name:<20}{kind.meaning}" for name, kind in KINDS.items())

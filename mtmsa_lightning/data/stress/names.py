"""The names of the changes, which need no imports."""

NAMES = (
    "blur", "jpeg", "low_resolution", "noise", "low_light", "rotation", "cover", "grey", "beard", "wrinkles",
    "glasses",
)  # fmt: skip
"""Names of ``changes.STRESSES``, in order."""

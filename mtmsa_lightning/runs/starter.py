"""The starter: a trained network that comes along as a package of its own, named ``starter``."""

from importlib.util import find_spec
from pathlib import Path

from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs.pretrained import README, is_pretrained

STARTER = "starter"
"""Its name wherever a checkpoint is named; a path of that name in the working directory goes first."""

PACKAGE = "mtmsa_lightning_starter"
"""The package that holds it, of the distribution in ``weights/starter``."""

NETWORK = "network"
"""The folder in the package, of :func:`~mtmsa_lightning.runs.pretrained.write_pretrained`."""

TERMS = "for non-commercial research only, as its training faces; no basis for decisions about people"

INSTALL = "in a checkout that has its weights: pip install ./weights/starter"
"""How to get it."""


def names_starter(source: str | Path) -> bool:
    """Return whether the name of a checkpoint is that of the starter."""
    return str(source) == STARTER and not Path(source).exists()


def starter_folder() -> Path:
    """Return the folder of the starter's network; CheckpointError if it is not installed."""
    package = find_spec(PACKAGE)
    folder = None if package is None else Path(str(package.origin)).parent / NETWORK
    if folder is None or not is_pretrained(folder):
        lack = "is not installed" if folder is None else f"has no weights in {folder}"
        raise CheckpointError(f"{STARTER}: the network that comes along {lack}: {INSTALL}")
    return folder


def is_starter(checkpoint: Path) -> bool:
    """Return whether a checkpoint file is that of the starter."""
    return checkpoint.absolute().parts[-3:-1] == (PACKAGE, NETWORK)


def describe_use(checkpoint: Path) -> str:
    """Return the line that a use of the starter is announced with."""
    return f"using the network that comes along, {TERMS}: {checkpoint.with_name(README)}"


def refuse_change(checkpoint: Path) -> None:
    """Raise ConfigError for a file of the starter, which is not changed in place."""
    if is_starter(checkpoint):
        raise ConfigError(
            f"{checkpoint}: the network that comes along is not changed: give --out, for example "
            f"--out runs/{STARTER}/model.safetensors"
        )

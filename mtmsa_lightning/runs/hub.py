"""Networks on the Hugging Face Hub."""

import re
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.text import install
from mtmsa_lightning.errors import CheckpointError, ConfigError
from mtmsa_lightning.runs.checkpoints import check_checkpoint, checkpoint_file
from mtmsa_lightning.runs.pretrained import FILES, README, WEIGHTS

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILE_SUFFIXES = (".ckpt", ".safetensors")


def local_path(source: str | Path, revision: str | None = None) -> Path:
    """Return the path of a network, after downloading it if it is on the Hub.

    An existing path takes precedence over ``owner/name``, and a name whose owner is a folder here is a path.

    Raises:
        CheckpointError: It is neither here nor on the Hub, or the Hub refuses or cannot be reached.
        ConfigError: The extra ``hub`` is not installed.
    """
    path, name = Path(source), str(source)
    here = path.exists() or (path.parent.is_dir() and len(path.parts) > 1)
    if here or not _NAME.fullmatch(name) or path.suffix in _FILE_SUFFIXES:
        return path
    hub = _client(f"{name}: no such file or folder here; to look for it on the Hugging Face Hub")
    files = [*FILES, README]  # no files with code
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=files)) / WEIGHTS
    except Exception as error:  # the client raises errors of its network library
        unreached = type(error).__name__ == "LocalEntryNotFoundError"  # and it was not downloaded before
        answer = "cannot be reached" if unreached else "did not give it"
        raise CheckpointError(
            f"{name}: no such file or folder here, and the Hugging Face Hub {answer}: {_reason(error)}"
        ) from error


def check_source(source: str | Path) -> Path:
    """Download a network that is on the Hub, and return its file after a check without heavy imports.

    Errors are those of :func:`local_path` and :func:`~mtmsa_lightning.runs.checkpoints.checkpoint_file`.
    """
    file = checkpoint_file(local_path(source))
    check_checkpoint(file)
    return file


def upload(folder: Path, repo_id: str, private: bool) -> str:
    """Upload a folder to a repository, which is created if missing, and return the URL of the commit."""
    hub = _client("to upload to the Hugging Face Hub")
    try:
        hub.create_repo(repo_id, private=private, exist_ok=True)
        commit = hub.upload_folder(repo_id=repo_id, folder_path=folder)
    except Exception as error:
        raise CheckpointError(
            f"{repo_id}: the Hugging Face Hub did not take it: {_reason(error)} (`hf auth login` signs in)"
        ) from error
    return str(commit.commit_url)


def _client(purpose: str) -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise ConfigError(f"{purpose}, the extra `hub` is needed: {install('hub')}") from error
    return huggingface_hub


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return re.sub(r"^Got: (\w+: )?", "", lines[0]) if lines else type(error).__name__

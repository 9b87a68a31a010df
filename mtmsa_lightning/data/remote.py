"""Local copies of tables and folders at URLs, and of datasets of the Hugging Face Hub."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from mtmsa_lightning._utils.folders import locked
from mtmsa_lightning._utils.text import install
from mtmsa_lightning.errors import ConfigError, DataError

HUB = "hf://datasets/"
"""Start of the address of a dataset of the Hugging Face Hub, before ``owner/name``."""

_PATIENCE = 24 * 3600.0  # seconds to wait for another process that copies


def is_url(place: str | Path) -> bool:
    """Return whether a file or folder is given by a URL."""
    return "://" in str(place)


def cache_folder() -> Path:
    """Return the folder of local copies: ``${MTMSA_CACHE:-~/.cache/mtmsa_lightning}``."""
    return Path(os.environ.get("MTMSA_CACHE", "~/.cache/mtmsa_lightning")).expanduser()


def local_copy(place: str) -> Path:
    """Return the local copy of a file or folder at a URL of fsspec; a path is returned unchanged.

    One process of a node copies, the others wait. A file, or a folder's ``dataset.json``, that has changed is
    copied again. Of a dataset of the Hub, its parquet files are copied to the cache of ``huggingface_hub``.

    Raises:
        ConfigError: A package for this kind of URL is missing.
        DataError: There is nothing at the URL, or it cannot be copied.
    """
    if not is_url(place):
        return Path(place)
    if place.startswith(HUB):
        return _from_hub(place)
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{place}: files there cannot be read: {error}") from error
    try:
        folder = system.isdir(path)
        record = f"{path.rstrip('/')}/dataset.json"
        stated = record if folder and system.exists(record) else path
        state = path if folder and stated == path else system.ukey(stated)
    except Exception as error:  # each file system has its own errors
        raise DataError(f"{place}: cannot be read ({type(error).__name__}: {error})") from error
    key = hashlib.sha256(f"{place}\n{state}".encode()).hexdigest()[:16]
    target: Path = cache_folder() / key / str(path).rstrip("/").rpartition("/")[2]
    with locked(target.parent, "copy of a URL", wait=_PATIENCE):
        if not target.exists():
            _copy(system, path, target, folder, place)
    return target


def _copy(system: Any, path: str, target: Path, folder: bool, place: str) -> None:
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.unlink(missing_ok=True)
    try:
        system.get(f"{path.rstrip('/')}/" if folder else path, str(partial), recursive=folder)
    except Exception as error:
        raise DataError(f"{place}: cannot be copied ({type(error).__name__}: {error})") from error
    partial.rename(target)


def _from_hub(place: str) -> Path:
    name, _, revision = place.removeprefix(HUB).strip("/").partition("@")
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError(f"{place}: the extra `hub` is needed: {install('hub')}") from error
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name, repo_type="dataset", revision=revision or None, allow_patterns=["*.parquet"]
            )
        )
    except Exception as error:  # of the network, of the name or of access
        raise DataError(f"{place}: cannot be downloaded ({type(error).__name__}: {error})") from error

"""Local copies of tables and folders at URLs, and of datasets of the Hugging Face Hub."""

import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from mtmsa_lightning._utils.folders import locked
from mtmsa_lightning._utils.text import install
from mtmsa_lightning.errors import ConfigError, DataError

HUB = "hf://datasets/"
"""Start of the address of a dataset of the Hugging Face Hub, before ``owner/name``."""

_TABLES = ("dataset.json", "faces.csv", "faces.parquet")
_PATIENCE = 24 * 3600.0  # seconds to wait for another process that copies


def is_url(place: str | Path) -> bool:
    """Return whether a file or folder is given by a URL."""
    return "://" in str(place)


def cache_folder() -> Path:
    """Return the folder of local copies: ``${MTMSA_CACHE:-~/.cache/mtmsa_lightning}``."""
    return Path(os.environ.get("MTMSA_CACHE", "~/.cache/mtmsa_lightning")).expanduser()


def local_copy(place: str) -> Path:
    """Return the local copy of a file or folder at a URL of fsspec; a path is returned unchanged.

    One process of a node copies, the others wait. A file that has changed is copied again, and so is a folder
    whose ``dataset.json``, or ``faces.csv`` or ``faces.parquet`` without one, has changed. Of a dataset of
    the Hub, its parquet files are copied to the cache of ``huggingface_hub``.

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
        folder = system.isdir(path)
        tables = [f"{path.rstrip('/')}/{name}" for name in _TABLES if folder]
        stated = next((each for each in tables if system.exists(each)), path)
        state = path if folder and stated == path else _state(system, stated)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{place}: files there cannot be read: {error}") from error
    except Exception as error:  # each file system has its own errors
        raise DataError(f"{place}: cannot be read ({type(error).__name__}: {error})") from error
    key = hashlib.sha256(f"{place}\n{state}".encode()).hexdigest()[:16]
    target: Path = cache_folder() / key / str(path).rstrip("/").rpartition("/")[2]
    with locked(target.parent, "copy of a URL", wait=_PATIENCE):
        if not target.exists():
            _copy(system, path, target, folder, place)
    return target


def _state(system: Any, path: str) -> str:
    """Return a text that changes with a file; fsspec's own does not change for files of HTTP servers."""
    info = system.info(path)
    return f"{system.ukey(path)} {[info.get(name) for name in ('size', 'ETag', 'Last-Modified')]}"


def _copy(system: Any, path: str, target: Path, folder: bool, place: str) -> None:
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.unlink(missing_ok=True)
    try:
        if folder:
            _copy_folder(system, path, partial)
        else:
            system.get(path, str(partial))
    except Exception as error:
        raise DataError(f"{place}: cannot be copied ({type(error).__name__}: {error})") from error
    partial.rename(target)


def _copy_folder(system: Any, path: str, target: Path) -> None:
    """Copy the files below a folder one by one: fsspec fails to do so on HTTP servers."""
    base = path.rstrip("/")
    files = {
        name: PurePosixPath(name.removeprefix(base).strip("/"))
        for name in system.find(path)
        if not name.endswith("/")
    }
    if base.startswith("http"):
        files = {name: PurePosixPath(unquote(str(each)).lstrip("/")) for name, each in files.items()}
    if not files or any(".." in each.parts for each in files.values()):
        raise ValueError("the folder is empty, or lists files outside")
    for folder in {each.parent for each in files.values()}:
        (target / folder).mkdir(parents=True, exist_ok=True)
    system.get([*files], [str(target / each) for each in files.values()])


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

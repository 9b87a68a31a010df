"""Weights & Biases: the logger of a run, and uploads at its end."""

import logging
import netrc
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from lightning.pytorch.loggers import WandbLogger

log = logging.getLogger(__name__)

FIRST_ANSWER = 5
"""Seconds to wait for the server's first response before a run is logged offline."""

TIMEOUT = 20
"""Seconds to wait for the server to open the run before it is logged offline."""

FINISH_TIMEOUT = 600
"""Seconds to wait for uploads at the end; `wandb sync` uploads the rest."""

WandbMode = Literal["online", "offline", "disabled"]


def choose_mode(asked: WandbMode | None) -> tuple[WandbMode, str]:
    """Choose a mode, with the reason, so that a missing key or network never stops a run."""
    wanted = asked or os.environ.get("WANDB_MODE")
    reason = "as asked" if asked else f"WANDB_MODE={wanted}"
    if wanted == "disabled":
        return "disabled", reason
    if wanted in ("offline", "dryrun"):  # its older name
        return "offline", reason
    if not _has_key():
        return "offline", "no API key; `wandb login` for online runs, `wandb sync` uploads this one later"
    if not _reachable():
        return "offline", f"no answer from {_server()}; `wandb sync` uploads this run later"
    return "online", "key and network found"


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _has_key() -> bool:
    """Return whether there is an API key; wandb's own check would ask on the terminal."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        found = netrc.netrc(os.environ.get("NETRC"))
        return found.authenticators(urlsplit(_server()).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _reachable() -> bool:
    """Return whether the server responds; a proxy or hanging server may accept connections only."""
    try:
        urlopen(_server(), timeout=FIRST_ANSWER).close()
    except HTTPError:
        return True  # also a response
    except (OSError, HTTPException, ValueError):
        return False
    return True


def wandb_logger(
    run: Path, mode: WandbMode, run_id: str, name: str, job_type: str, config: dict[str, Any]
) -> WandbLogger:
    """Build the logger of a run with wandb's files in its directory.

    A continued run has the same ``run_id``. Group and job type are those of ``WANDB_RUN_GROUP`` and
    ``WANDB_JOB_TYPE``, by default ``name`` and ``job_type``. With ``wandb_faces`` in the settings the console
    output, which may name files, is sent too.
    """
    import wandb

    run.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")  # the run logs where its files are

    def build(mode: WandbMode) -> WandbLogger:
        # not WandbLogger's own `offline`: that sets WANDB_MODE, and with it every later run of the process
        logger = WandbLogger(
            tags=tags(config), settings=wandb.Settings(
                init_timeout=TIMEOUT, finish_timeout=FINISH_TIMEOUT, finish_timeout_raises=False,
                disable_code=True,  # uncommitted changes may contain names of faces
                console="auto" if config.get("wandb_faces") else "off",
            ),
            project=os.environ.get("WANDB_PROJECT", "mtmsa-lightning"), name=f"{name}/{run.name}",
            group=os.environ.get("WANDB_RUN_GROUP", name),
            job_type=os.environ.get("WANDB_JOB_TYPE", job_type),
            save_dir=str(run), id=run_id, resume="allow", mode=mode, config=config,
        )  # fmt: skip
        logger._wandb_init.pop("anonymous", None)  # set by Lightning 2.6; wandb warns of it
        return logger

    logger = build(mode)
    if mode == "online":
        try:
            _ = logger.experiment
        except Exception as error:  # a refused key or a failing server must not stop training
            log.warning("wandb: %s; logging offline instead", error)
            wandb.teardown()  # or its service would treat the second try as an open run
            logger = build("offline")
    return logger


def tags(config: dict[str, Any]) -> list[str]:
    """Return tags of a run's settings for filtering: dataset, protocol, fold, heads."""
    data, model = config.get("data") or {}, config.get("model") or {}
    chosen = data.get("init_args") or {}
    found = [str(data.get("class_path", "")).rpartition(".")[2].lower(), str(chosen.get("protocol") or "")]
    found += [f"fold{chosen['fold']}"] if chosen.get("fold") is not None else []
    if age := model.get("age"):
        found.append(str(age.get("class_path", "")).rpartition(".")[2])
    found += [task for task in ("gender", "race") if model.get(task)]
    return [tag for tag in found if tag]


def artifact_name(*parts: str) -> str:
    """Return the parts, joined by dashes, as a valid name for an artifact: at most 128 of ``A-Za-z0-9_.-``.

    A name that must be changed ends in a hash of the original, so that names stay distinct.

    >>> artifact_name("morph/fold0", "report"), artifact_name("tiny", "report")
    ('morph-fold0-report-f04ae2', 'tiny-report')
    """
    text = "-".join(parts)
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:120].strip("-") or "run"
    return plain if plain == text else f"{plain}-{sha256(text.encode()).hexdigest()[:6]}"


def log_files(loggers: Iterable[Any], run: Path, name: str, best: Path | None, faces: bool = False) -> None:
    """Upload the best checkpoint and the evaluation report, if they exist, as artifacts.

    With ``faces``, the report has photos and names of single faces.
    """
    with TemporaryDirectory() as folder:
        report = _report(run, Path(folder), faces) if (run / "report.html").is_file() else None
        wanted = {("checkpoint", "model", "best"): best, ("report", "report", "latest-report"): report}
        for logger in [each for each in loggers if isinstance(each, WandbLogger)]:
            for (what, kind, alias), path in wanted.items():
                if path is None:
                    continue
                try:
                    import wandb

                    artifact = wandb.Artifact(artifact_name(name, what), type=kind)
                    if path.is_dir():
                        artifact.add_dir(str(path))
                    else:
                        artifact.add_file(str(path), policy="immutable")
                    logger.experiment.log_artifact(artifact, aliases=[alias, artifact_name(run.name)])
                except Exception as error:  # the run is complete
                    log.warning("wandb: the %s is not uploaded: %s", what, error)


def _report(run: Path, folder: Path, faces: bool) -> Path:
    """Copy the files of a report to upload, with or without single faces."""
    from mtmsa_lightning.reports.report import PAGE, copy_without_faces

    if not faces:
        copy_without_faces(run, folder)
        return folder
    shutil.copy(run / PAGE, folder)
    for name in ("plots", "tables"):
        if (run / name).is_dir():
            shutil.copytree(run / name, folder / name)
    return folder


def finish(loggers: Iterable[Any], failed: bool = False) -> None:
    """Close the W&B runs that were opened: all is on disk or uploaded, and no later run joins them."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger.experiment.finish(exit_code=int(failed))


def new_run_id() -> str:
    """Return a new identifier."""
    return secrets.token_hex(4)

"""Weights & Biases: the logger of a run, and what is uploaded at its end.

wandb itself is imported when a run is logged by it: that takes longer than parsing a whole command line.
"""

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
"""Seconds that a server has for its first answer, before a run is logged offline."""

TIMEOUT = 20
"""Seconds that a server which has answered has to open the run, before it is logged offline."""

FINISH_TIMEOUT = 600
"""Seconds that an upload may go on when everything else is done; what is left is uploaded by `wandb sync`."""

WandbMode = Literal["online", "offline", "disabled"]


def choose_mode(asked: WandbMode | None) -> tuple[WandbMode, str]:
    """Choose how to log, so that a missing key or network never stops a run.

    Args:
        asked: What the user wants; None for what ``WANDB_MODE`` says, or online where possible.

    Returns:
        The mode and the reason for it.
    """
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
    """Look where `wandb login` and clusters leave keys; wandb's own check would ask on the terminal."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return (
            netrc.netrc(os.environ.get("NETRC")).authenticators(urlsplit(_server()).hostname or "")
            is not None
        )
    except (OSError, netrc.NetrcParseError):
        return False


def _reachable() -> bool:
    """Ask for any answer: a proxy or a hanging server accepts connections without ever giving one."""
    try:
        urlopen(_server(), timeout=FIRST_ANSWER).close()
    except HTTPError:
        return True  # an answer all the same
    except (OSError, HTTPException, ValueError):
        return False
    return True


def wandb_logger(
    run: Path,
    mode: WandbMode,
    run_id: str,
    name: str,
    job_type: str,
    config: dict[str, Any],
) -> WandbLogger:
    """Build the logger of a run.

    Args:
        run: The run directory, where wandb's files go.
        mode: ``online`` or ``offline``.
        run_id: Identifier, the same when a run is continued.
        name: Name of the experiment; the group of its runs, unless ``WANDB_RUN_GROUP`` names one.
        job_type: The verb, unless ``WANDB_JOB_TYPE`` says something else.
        config: Settings to show; with ``wandb_faces`` what is printed, which may name files, is sent too.

    Returns:
        The logger.
    """
    import wandb

    run.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")  # the run's own messages say where things are

    def build(mode: WandbMode) -> WandbLogger:
        # not WandbLogger's own `offline`: that sets WANDB_MODE, and with it every later run of the process
        logger = WandbLogger(
            tags=tags(config), settings=wandb.Settings(
                init_timeout=TIMEOUT, finish_timeout=FINISH_TIMEOUT, finish_timeout_raises=False,
                disable_code=True,  # changes of a repository may be lists of faces
                console="auto" if config.get("wandb_faces") else "off",
            ),
            project=os.environ.get("WANDB_PROJECT", "mtmsa-lightning"), name=f"{name}/{run.name}",
            group=os.environ.get("WANDB_RUN_GROUP", name),
            job_type=os.environ.get("WANDB_JOB_TYPE", job_type),
            save_dir=str(run), id=run_id, resume="allow", mode=mode, config=config,
        )  # fmt: skip
        logger._wandb_init.pop("anonymous", None)  # always set by Lightning 2.6, and warned of by wandb
        return logger

    logger = build(mode)
    if mode == "online":
        try:
            _ = logger.experiment
        except Exception as error:  # a key that is refused or a server that fails must not stop training
            log.warning("wandb: %s; logging offline instead", error)
            wandb.teardown()  # its service would take the second try for a run that is still open
            logger = build("offline")
    return logger


def tags(config: dict[str, Any]) -> list[str]:
    """Name what runs are filtered by: dataset, protocol, fold, heads.

    Args:
        config: The run's settings.
    """
    data, model = config.get("data") or {}, config.get("model") or {}
    chosen = data.get("init_args") or {}
    found = [str(data.get("class_path", "")).rpartition(".")[2].lower(), str(chosen.get("protocol") or "")]
    found += [f"fold{chosen['fold']}"] if chosen.get("fold") is not None else []
    if age := model.get("age"):
        found.append(str(age.get("class_path", "")).rpartition(".")[2])
    found += [task for task in ("gender", "race") if model.get(task)]
    return [tag for tag in found if tag]


def artifact_name(*parts: str) -> str:
    """Return a name that W&B takes for an artifact: at most 128 of ``A-Za-z0-9_.-``.

    Args:
        parts: Texts, joined by dashes. A name that has to be changed ends in a hash of what it was, so that
            no two become one.

    >>> artifact_name("morph/fold0", "report"), artifact_name("tiny", "report")
    ('morph-fold0-report-f04ae2', 'tiny-report')
    """
    text = "-".join(parts)
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:120].strip("-") or "run"
    return plain if plain == text else f"{plain}-{sha256(text.encode()).hexdigest()[:6]}"


def log_files(loggers: Iterable[Any], run: Path, name: str, best: Path | None, faces: bool = False) -> None:
    """Upload the best checkpoint and, if there is one, the evaluation report as artifacts.

    Args:
        loggers: The run's loggers.
        run: The run directory, or the folder of a report.
        name: Name of the experiment.
        best: The best checkpoint of a fit.
        faces: Upload what shows or names single faces too.
    """
    with TemporaryDirectory() as folder:
        wanted = {"checkpoint": best}
        if (run / "report.html").is_file():
            wanted["report"] = _report(run, Path(folder), faces)
        for logger in [each for each in loggers if isinstance(each, WandbLogger)]:
            for what, path in wanted.items():
                if path is None:
                    continue
                try:
                    import wandb

                    kind, alias = {"checkpoint": ("model", "best"), "report": ("report", "latest-report")}[
                        what
                    ]
                    artifact = wandb.Artifact(artifact_name(name, what), type=kind)
                    if path.is_dir():
                        artifact.add_dir(str(path))
                    else:
                        artifact.add_file(str(path), policy="immutable")
                    logger.experiment.log_artifact(artifact, aliases=[alias, artifact_name(run.name)])
                except Exception as error:  # the run itself is complete
                    log.warning("wandb: the %s is not uploaded: %s", what, error)


def _report(run: Path, folder: Path, faces: bool) -> Path:
    """Copy what is uploaded of a report, with single faces or without."""
    from mtmsa_lightning.reports.report import PAGE, copy_without_faces

    if not faces:
        copy_without_faces(run, folder)
        return folder
    shutil.copy(run / PAGE, folder)
    for name in ("plots", "tables"):
        if (run / name).is_dir():
            shutil.copytree(run / name, folder / name)
    return folder


def finish(loggers: Iterable[Any]) -> None:
    """Close runs, so that everything is on disk or uploaded when the verb returns."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def new_run_id() -> str:
    """Return a fresh identifier."""
    return secrets.token_hex(4)

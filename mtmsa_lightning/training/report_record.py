"""The record beside a report that was made without the command ``test``."""

import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mtmsa_lightning.runs.run_json import update_record

log = logging.getLogger(__name__)


def finish_report(folder: Path, record: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write ``run.json`` of a report with its test metrics and the present time, and log its place.

    Args:
        folder: Folder of the report.
        record: What else is recorded.
        metrics: Result of :func:`.reports.report.write_report`.
    """
    test = {f"test/{name}": value for name, value in metrics["scalars"].items()}
    finished = datetime.now().isoformat(timespec="seconds")
    update_record(folder, dict(record) | {"test": test, "finished": finished})
    log.info("report: %s", folder / "report.html")

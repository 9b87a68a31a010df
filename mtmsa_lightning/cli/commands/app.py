"""``mtmsa app``: a web page that says the ages of the faces in a photo."""

import argparse
import logging
from collections.abc import Sequence

from mtmsa_lightning.cli.arguments import Parser, add_checkpoint, real_number, whole_number
from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.runs.hub import check_source

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of the verb; imports nothing heavy."""
    parser = Parser(
        prog="mtmsa app",
        description="Serve a web page on this machine: drop a photo or use the camera, and see the age of "
        "every face as a curve with its interval, gender and race probabilities, and what the attention "
        "looks at. It needs no network, and photos are not stored.",
        epilog="It needs the extras `app` (Gradio) and `align` (the face detector).",
    )
    add_checkpoint(parser, hub=True)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, which only this machine reaches; others have no "
        "password and no encryption); requests under another name are refused",
    )
    parser.add_argument("--port", type=whole_number, help="port (default: the first free one from 7860)")
    parser.add_argument(
        "--max_mb", type=real_number, default=20.0, help="largest file in MB (2^20 bytes; default: 20)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: auto)")
    return parser


def main(args: Sequence[str]) -> None:
    """Run the verb until it is interrupted.

    Raises:
        MTMSAError: If the checkpoint, an extra or the address is of no use, before the page is served.
    """
    options = parser().parse_args(args)
    check_source(options.ckpt_path)

    if options.max_mb <= 0:
        raise ConfigError(f"--max_mb {options.max_mb:g}: must be above 0, or no photo could be sent")

    from mtmsa_lightning.align.detector import load_detector
    from mtmsa_lightning.app.server import listen, need_gradio, serve
    from mtmsa_lightning.inference.estimator import AgeEstimator

    need_gradio()
    listen(options.host, options.port).close()  # so that a wrong address is told at once
    estimator = AgeEstimator.from_pretrained(
        options.ckpt_path, device=options.device, detector=load_detector()
    )
    log.info("%s", estimator.describe(detect=True))
    serve(estimator, options.host, options.port, options.max_mb)

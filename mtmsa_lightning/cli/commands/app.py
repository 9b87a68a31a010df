"""``mtmsa app``: serve a web page that predicts the faces in a photo."""

import argparse
import logging
from collections.abc import Sequence

from mtmsa_lightning.cli.arguments import (
    Parser,
    add_network,
    add_search,
    add_several,
    find_networks,
    positive_number,
    whole_number_from,
)
from mtmsa_lightning.settings.defaults import HOST, MAX_MEGABYTES, PORTS

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa app",
        description="Serve a web page on this machine that takes a photo and shows, for each face, the "
        "predicted age as a curve with its interval, gender and race probabilities, and an attention map. It "
        "needs no network, and photos are not stored.",
        epilog="Needs the extras `app` (Gradio) and `align` (the face detector).",
    )
    add_network(parser)
    add_several(parser)
    parser.add_argument(
        "--host", default=HOST, help="address to listen on; by default this machine only: "
        "there is no password and no encryption; requests under another name are refused",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=whole_number_from(0, 65535), help=f"port (default: the first free one from {PORTS[0]})"
    )
    size = "largest file in MB of 2^20 bytes"
    parser.add_argument("--max_mb", type=positive_number, default=MAX_MEGABYTES, help=size)
    add_search(parser)
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
    return parser


def main(args: Sequence[str]) -> None:
    """Serve the page until interrupted."""
    options = parser().parse_args(args)
    networks = find_networks(options.ckpt_path or [None])

    from mtmsa_lightning.align.detector import load_detector
    from mtmsa_lightning.app.server import listen, need_gradio, serve
    from mtmsa_lightning.inference.estimator import AgeEstimator
    from mtmsa_lightning.inference.ranks import choose_devices

    need_gradio()
    listen(options.host, options.port).close()  # a wrong address is an error before the network is loaded
    (device,) = choose_devices(options.accelerator, "1")
    detector = load_detector(options.smallest_face, options.orientation)
    estimator = AgeEstimator.from_pretrained(networks, device=device, detector=detector)
    log.info("%s", estimator.describe(detect=True))
    serve(estimator, options.host, options.port, options.max_mb)

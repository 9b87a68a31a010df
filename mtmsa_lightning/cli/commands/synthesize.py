"""``mtmsa synthesize``: write synthetic faces in the layout of a real release."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.cli.arguments import Parser, whole_number_from
from mtmsa_lightning.settings.defaults import SYNTHETIC_FACES, SYNTHETIC_SIDE

LAYOUTS = ("morph", "adience", "utkface")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa synthesize",
        description="Write synthetic faces in the exact layout of a real release, with its tables, names and "
        "errors, to try a reader, a protocol or a whole run without the data.",
    )
    add = parser.add_argument
    add("layout", choices=LAYOUTS, help="release whose layout to use")
    add("--out", required=True, type=Path, help="folder to write; new or empty")
    add("--n_faces", type=whole_number_from(10), default=SYNTHETIC_FACES, help="number of images")
    add("--seed", type=whole_number_from(0), default=0, help="seed of the faces")
    size = "side of the images in pixels"
    add("--size", type=whole_number_from(16), default=SYNTHETIC_SIDE, help=size)
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command."""
    options = parser().parse_args(args)

    from mtmsa_lightning.data import synthetic

    write = getattr(synthetic, f"write_{options.layout}")
    write(options.out, n_faces=options.n_faces, seed=options.seed, size=options.size)
    print(f"{pluralize(options.n_faces, 'synthetic face')} in {options.layout}'s layout: {options.out}")

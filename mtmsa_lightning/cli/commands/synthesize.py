"""``mtmsa synthesize``: synthetic faces on disk, in the layout of a real release."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.cli.arguments import Parser, whole_number_from

LAYOUTS = ("morph", "adience", "utkface")


def parser() -> argparse.ArgumentParser:
    """Build the argument parser of the verb; imports nothing heavy."""
    parser = Parser(
        prog="mtmsa synthesize",
        description="Draw synthetic faces and write them in the exact layout of a real release, tables, "
        "names and dirt included: to try a reader, a protocol or a whole run without the data.",
    )
    parser.add_argument("layout", choices=LAYOUTS, help="the release whose layout is written")
    parser.add_argument("--out", required=True, type=Path, help="folder to write; must be new or empty")
    parser.add_argument(
        "--n_faces", type=whole_number_from(10), default=1500, help="number of pictures (default: 1500)"
    )
    parser.add_argument("--seed", type=whole_number_from(0), default=0, help="seed of all draws (default: 0)")
    parser.add_argument(
        "--size",
        type=whole_number_from(16),
        default=200,
        help="side of the pictures, pixels (default: 200)",
    )
    return parser


def main(args: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        DataError: If the folder holds something else.
    """
    options = parser().parse_args(args)

    from mtmsa_lightning.data import synthetic

    write = getattr(synthetic, f"write_{options.layout}")
    write(options.out, n_faces=options.n_faces, seed=options.seed, size=options.size)
    print(f"{pluralize(options.n_faces, 'synthetic face')} in {options.layout}'s layout: {options.out}")

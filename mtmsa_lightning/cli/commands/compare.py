"""``mtmsa compare``: paired comparison of models on the same test faces."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from mtmsa_lightning.cli.arguments import Parser, whole_number_from
from mtmsa_lightning.errors import ConfigError, DataError
from mtmsa_lightning.settings.defaults import PERMUTATIONS

log = logging.getLogger(__name__)

ENDINGS = (".json", ".csv", ".md", ".tex", ".html", ".pdf", ".svg", ".png")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa compare",
        description="Compare models face by face on the same test faces: differences of the main metrics "
        "that are means over faces, each with a bootstrap interval and a paired permutation test (by "
        "subject where subjects are known). Test ids and labels must be equal. With several "
        "seeds, a face's score is its mean over them.",
    )
    add = parser.add_argument
    add("baseline", type=Path, help="a run, the folder of a cross-validation or of a report, or a table")
    add("others", type=Path, nargs="+", metavar="other", help="what to compare with it")
    add(
        "--out",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="files to write: tables "
        "(.json, .csv, .md, .tex), a page (.html), a plot of all models (.pdf, .svg, .png)",
    )
    add("--draws", type=whole_number_from(1), default=PERMUTATIONS, help="bootstrap samples, sign flips")
    add("--seed", type=whole_number_from(0), default=0, help="seed of both")
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command."""
    options = parser().parse_args(args)
    for file in options.out:
        if file.suffix not in ENDINGS:
            raise ConfigError(f"--out {file}: write to files ending in {', '.join(ENDINGS)}")
    for path in (options.baseline, *options.others):
        if not path.exists():
            raise DataError(f"{path}: no predictions: no such file or folder")
    from mtmsa_lightning.evaluation.comparison import compare, read_contender
    from mtmsa_lightning.reports.comparison_files import Comparison
    from mtmsa_lightning.reports.comparison_text import verdict

    first, *rest = [read_contender(path) for path in (options.baseline, *options.others)]
    table = compare(first, rest, options.draws, options.seed)
    table["verdict"] = table.apply(verdict, axis=1)
    comparison = Comparison(first, rest, table, options.draws, options.seed)
    log.info("%s", comparison.markdown().rstrip())
    for file in options.out:
        comparison.write(file)

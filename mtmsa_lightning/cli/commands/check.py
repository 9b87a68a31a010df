"""``mtmsa check``: check a dataset and a config before training."""

import argparse
import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.cli.arguments import Parser, add_boolean
from mtmsa_lightning.cli.data_arguments import add_fit_arguments, data_arguments
from mtmsa_lightning.data.audit.findings import KINDS, Finding
from mtmsa_lightning.data.datasets import CLASSES
from mtmsa_lightning.training.early_checks import check_arguments

if TYPE_CHECKING:
    import pandas as pd

    from mtmsa_lightning.data.datamodule import FaceDataModule
    from mtmsa_lightning.data.mixture.datamodule import Mixture

CONFIGS = {
    "morph": "morph.yaml", "adience": "adience.yaml", "utkface": "utkface.yaml", "csv": "csv.yaml",
    "synthetic": "demo.yaml", "agedb": "agedb.yaml", "fgnet": "fgnet.yaml", "fairface": "fairface.yaml",
}  # fmt: skip
"""The shipped config of each dataset."""

DESCRIPTION = """\
Check a dataset and a config before training: counts compared with the published release, sizes of all
protocols, constant guesses, contradicting labels, time and memory on this device, and the command to type.
Without --config, the dataset's shipped config is checked; without --data, the dataset is recognised by its
files. All settings of `mtmsa fit` may be given:
--model.NAME VALUE, --trainer.NAME VALUE, --data.NAME VALUE."""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa check",
        description=DESCRIPTION,
        epilog="Exit status: 0 no error, 1 errors (see `mtmsa audit --help`), 2 the check could not run.",
    )
    add_fit_arguments(parser)
    add_boolean(parser, "--timing", "time a few training steps", default=True)
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command; exit with status 1 if there is a finding of severity error."""
    options, others = parser().parse_known_args(args)
    arguments = fit_arguments(options, others)
    cli = _build(arguments)

    from mtmsa_lightning.data.audit.findings import has_errors
    from mtmsa_lightning.data.mixture.datamodule import Mixture, sources_of

    data = cli.datamodule
    mixed = isinstance(data, Mixture)
    checked = [_check_source(source, mixed) for source in sources_of(data)]
    findings = [finding for found, _ in checked for finding in found]
    if mixed:
        print("\n".join(_describe_mixture(data)))
    trained = any(trained for _, trained in checked)
    if options.timing and trained:
        with _quiet("mtmsa_lightning"):  # setup describes the data again
            cost = list(_describe_cost(cli))
        print("\n".join(cost))
    arguments += _monitor(cli) if trained else []
    purpose, verb = ("train", "fit") if trained else ("test", "test --ckpt_path RUN")
    print(f"to {purpose}:\n  {command(arguments, verb)}")
    if has_errors(findings):
        raise SystemExit(1)


def _monitor(cli: Any) -> list[str]:
    """Return the argument of a metric that can choose the checkpoint, if the config's needs exact ages."""
    from mtmsa_lightning.data.face_table import label_kinds
    from mtmsa_lightning.training.callbacks.monitor_check import OF_AGE_GROUPS, OF_EXACT_AGES

    data = cli.datamodule
    kinds = label_kinds(data.table.frame.iloc[data.split.val])
    wrong = cli.settings.checkpoint.monitor == OF_EXACT_AGES and "exact" not in kinds and "group" in kinds
    return [f"--checkpoint.monitor={OF_AGE_GROUPS}"] if wrong else []


def _check_source(data: "FaceDataModule", mixed: bool) -> tuple[list[Finding], bool]:
    """Print what is known of a dataset; return its findings, and whether it has a training part."""
    from mtmsa_lightning.data.audit.audit import all_splits, check_table, read
    from mtmsa_lightning.data.audit.findings import by_severity
    from mtmsa_lightning.data.audit.orientation import sideways_sample

    table = read(data)
    splits, findings = all_splits(data, table)
    findings = by_severity([*findings, *check_table(data, table, splits), *sideways_sample(table)])
    trained = bool(splits) and len(splits[data.fold].train) > 0
    if trained and not mixed and (data.sampler == "balanced" or not len(splits[data.fold].val)):
        data.setup("fit")  # raises, as it will for `mtmsa fit`
    print("\n".join(_describe_data(data)))
    print("\n".join(_describe_findings(findings)))
    return findings, trained


def _describe_mixture(data: "Mixture") -> Iterator[str]:
    """Yield lines about a mixture; raise an error as `mtmsa fit` will, such as for copies across sources."""
    from mtmsa_lightning.data.splits.split import PARTS

    with _quiet("mtmsa_lightning"):
        data.prepare_data()
    data.check_parts("fit")
    yield f"mixture of {', '.join(data.names)}: {pluralize(len(data.table), 'face')}"
    yield f"  parts: {', '.join(f'{part} {len(getattr(data.split, part)):,}' for part in PARTS)}"
    yield f"  {data.describe_epoch()}"
    yield f"  races: {', '.join(data.race_classes) or 'none'}"
    yield from (f"  {note}" for note in data.copy_notes or ("no image is in several sources",))


def fit_arguments(options: argparse.Namespace, others: Sequence[str]) -> list[str]:
    """Return the arguments of ``mtmsa fit`` that train what is checked."""
    arguments = data_arguments(options, others, recognised=True, required=True)
    if options.allow_classes:
        arguments.append(f"--allow_classes={options.allow_classes}")
    for name, config in CONFIGS.items():
        if not options.config and (choice := f"--data={CLASSES[name]}") in arguments:
            arguments.remove(choice)  # the config names the class
            arguments.insert(0, f"--config={config}")
    return arguments


def command(arguments: Sequence[str], verb: str = "fit") -> str:
    """Return the command to type."""
    split = ([*text.split("=", 1)] if text.startswith("--") else [text] for text in arguments)
    return f"mtmsa {verb} {shlex.join(word for words in split for word in words)}"


def _build(arguments: list[str]) -> Any:
    """Build data, model and trainer as ``mtmsa fit`` does, and run nothing."""
    check_arguments("fit", arguments)

    from mtmsa_lightning.training.lightning_cli import TrainingCLI
    from mtmsa_lightning.training.trainer_commands import run_trainer_command

    class Built(TrainingCLI):
        def _run_subcommand(self, subcommand: str) -> None:
            """Do nothing: only what was built is needed."""

    with _quiet("mtmsa_lightning", "lightning.pytorch", "lightning.fabric"):
        return run_trainer_command("fit", [*arguments, "--wandb=disabled"], Built)


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Let these loggers show warnings only."""
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    try:
        for logger in levels:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _describe_data(data: "FaceDataModule") -> Iterator[str]:
    """Yield lines about the faces, the release, the protocols and the constant guesses."""
    from mtmsa_lightning.data.audit.published_counts import compare
    from mtmsa_lightning.data.baselines import baselines_by_part
    from mtmsa_lightning.errors import DataError
    from mtmsa_lightning.reports.audit import baseline_table, comparison_table

    table = data.table
    yield f"{data.source} at {data.root}: {pluralize(len(table), 'face')}; label rule: {table.label_rule}"
    compared = compare(table)
    if compared:
        yield "compared with the published release:"
        yield from _lines(comparison_table(compared))
    else:
        unknown = f"none is known for label rule {table.label_rule!r}"
        reason = "synthetic faces" if data.source != data.name else unknown
        yield f"not held against a published release: {reason}"
    yield f"protocols, seed {data.seed} (* as configured):"
    yield from (f"  {line}" for line in _protocol_sizes(data))
    try:
        guesses = baselines_by_part(table.frame, data.split, data.age_groups)
    except DataError:
        return
    if any(guesses.values()):
        yield "constant guesses:"
        yield from _lines(baseline_table(guesses))


def _protocol_sizes(data: "FaceDataModule") -> Iterator[str]:
    """Yield a line for each protocol of a dataset: sizes of its parts, or why it does not apply."""
    from mtmsa_lightning.data.face_table import SPLITS
    from mtmsa_lightning.data.splits.split import PARTS, fold_numbers, make_split
    from mtmsa_lightning.errors import DataError

    for name in data.protocols:
        chosen = name == data.protocol
        try:
            folds = fold_numbers(data.table, name, data.seed)
            fold = data.fold if chosen else folds[0]
            fractions = data.val_fraction, data.calibration_fraction
            split = make_split(data.table, name, fold, data.seed, *fractions)
            parts = PARTS if data.calibration_fraction else SPLITS
            sizes = "  ".join(f"{part} {len(getattr(split, part)):>7,}" for part in parts)
            text = f"{sizes}  fold {fold} of {len(folds)}"
        except DataError as error:
            text = f"not here: {error}"
        yield f"{'*' if chosen else ' '} {name:<17} {text}"


def _describe_findings(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield lines about contradictions in the table."""
    yield "findings in the table and a few images (`mtmsa audit` looks at all of them):"
    if not findings:
        yield "  none"
    for finding in findings:
        remedy = KINDS[finding.kind].remedy
        yield f"  {finding.severity:<8}{finding.text}{f'  -> {remedy}' if remedy else ''}"


def _describe_cost(cli: Any) -> Iterator[str]:
    """Time a few training steps and yield lines about the time and memory of a training."""
    from mtmsa_lightning.training.cost import training_cost

    data, trainer = cli.datamodule, cli.trainer
    data.setup("fit")
    cost = training_cost(cli.model, data, trainer.strategy.root_device, trainer.precision)
    devices = trainer.num_devices * trainer.num_nodes
    train, val = data.epoch_size, len(data.val_dataset)
    epoch = cost.epoch_seconds(train, val, devices, data.num_workers)
    yield f"cost on {devices} x {cost.device}, {cost.precision}, {data.image_size} px (an estimate):"
    epochs = trainer.max_epochs or 0
    whole = f", {_duration(epoch * epochs)} for {pluralize(epochs, 'epoch')}" if epochs > 0 else ""
    yield f"  {_duration(epoch)} per epoch of {pluralize(train, 'face')}{whole}"
    timed = f"median of {cost.steps} with {pluralize(cost.faces, 'face')} each"
    yield f"  steps: {1e3 * cost.face_seconds:.1f} ms per face, {timed}"
    workers = pluralize(data.num_workers, "worker")
    yield f"  loading: {1e3 * cost.load_seconds:.1f} ms per image on one core; {workers}"
    yield f"  memory {cost.memory / 2**30:.1f} GiB per device ({cost.memory_how})"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _lines(rows: "pd.DataFrame") -> list[str]:
    """Return a table of texts as indented lines."""
    return [f"  {line}".rstrip() for line in rows.to_string(index=False).splitlines()]

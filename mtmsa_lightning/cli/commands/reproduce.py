"""``mtmsa reproduce``: train the variants of a study and write its table."""

import argparse
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from mtmsa_lightning._utils.folders import locked
from mtmsa_lightning._utils.text import pluralize
from mtmsa_lightning.cli.arguments import Parser
from mtmsa_lightning.cli.commands.crossval import add_run_arguments, fit_arguments, numbers, read_launch
from mtmsa_lightning.cli.data_arguments import add_fit_arguments
from mtmsa_lightning.errors import ConfigError, MTMSAError
from mtmsa_lightning.settings.configs import option
from mtmsa_lightning.studies.crossval import LOCAL, Experiment, plan, print_commands, summarise, train
from mtmsa_lightning.studies.definition import Study, read_recorded, read_study, shipped_studies
from mtmsa_lightning.studies.launch import Launch

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command, without heavy imports."""
    parser = Parser(
        prog="mtmsa reproduce",
        usage="mtmsa reproduce STUDY [--config X.yaml ...] [--variants NAME ...] [--folds 0-4] "
        "[--seeds 0 1 2] [--parallel N] [--launch local|ray|slurm] [any argument of `mtmsa fit`]",
        description="Train and test every variant of a study by `mtmsa crossval`, then write one table to "
        "<root>/studies/<study>-<base>/: mean and standard deviation over all runs, and a paired comparison "
        "with the baseline. Complete runs are skipped and interrupted ones continued: repeat the command "
        "after an interruption. --config replaces the configs that the study is based on; all other "
        "arguments go to `mtmsa fit`, for all variants.",
        epilog=f"Shipped studies: {', '.join(shipped_studies())}; experiments/README.md describes them.",
    )
    parser.add_argument("study", metavar="STUDY", help="name of a shipped study, or a file")
    add_fit_arguments(parser)
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="only these, and the baseline")
    add_run_arguments(parser, "0-4, or 0,2 (default: the study's)", "default: the study's")
    return parser


def main(args: Sequence[str]) -> None:
    """Run the command."""
    options, others = parser().parse_known_args(args)
    configs, options.config = options.config, []
    fit_args = fit_arguments(options, others)
    if option(fit_args, "name") is not None:
        raise ConfigError("--name: the study names its runs")
    study = read_study(options.study, configs)
    if options.variants:
        for name in options.variants:
            if name not in study.variants:
                raise ConfigError(f"{study.file}: no variant {name!r}, only {', '.join(study.variants)}")
        wanted = {study.baseline, *options.variants}
        variants = {name: configs for name, configs in study.variants.items() if name in wanted}
        study = replace(study, variants=variants)
    if options.folds:
        study = replace(study, folds=tuple(numbers(options.folds)))
    if options.seeds:
        study = replace(study, seeds=tuple(options.seeds))
    reproduce(study, fit_args, read_launch(options))


def reproduce(study: Study, fit_args: Sequence[str], launch: Launch = LOCAL) -> None:
    """Train all runs that are not complete, then write and print the table."""
    recorded = read_recorded(study)
    experiments = _plan_all(study, fit_args, launch)
    if launch.dry_run:
        print_commands([*experiments.values()])
        return

    from mtmsa_lightning._utils.atomic_write import write_text
    from mtmsa_lightning._utils.strict_json import to_json
    from mtmsa_lightning.reports.study_text import markdown, rows
    from mtmsa_lightning.studies.comparison import Variant, study_table

    root = next(iter(experiments.values())).root
    folder = root / "studies" / f"{study.name}-{study.base()}"
    done, lacking = dict[str, Variant](), list[str]()
    with ExitStack() as held:
        for each in (folder, *(experiment.folder for experiment in experiments.values())):
            held.enter_context(locked(each, "mtmsa reproduce"))
        for number, (variant, experiment) in enumerate(experiments.items(), 1):
            log.info("variant %d of %d: %s (%s)", number, len(experiments), variant, experiment.name)
        launcher = launch.launcher([each.settings["trainer"] for each in experiments.values()], folder)
        names = {experiment.name: variant for variant, experiment in experiments.items()}
        for experiment, failures in train([*experiments.values()], launcher):
            variant = names[experiment.name]
            summary, missing = summarise(experiment, failures)
            lacking += [f"  {variant}, {trial}: {reason}" for trial, reason in missing.items()]
            if summary is not None:
                done[variant] = Variant(study.variants[variant], experiment.folder, experiment.settings)
        variants = {variant: done[variant] for variant in experiments if variant in done}
        if variants:
            table = study_table(study, variants, recorded)
            text = markdown(table)
            write_text(folder / "table.json", to_json(table, indent=2) + "\n")
            write_text(folder / "table.csv", rows(table).to_csv(index=False))
            write_text(folder / "table.md", text)
            log.info("%s\nfiles: %s", text, folder)
    if lacking:
        raise MTMSAError(
            f"{pluralize(len(lacking), 'run is', 'runs are')} missing; repeat the command to try again:\n"
            + "\n".join(lacking)
        )


def _plan_all(study: Study, fit_args: Sequence[str], launch: Launch) -> dict[str, Experiment]:
    """Plan every variant before the first one is trained; an error names the variant."""
    experiments = {}
    for variant, overrides in study.variants.items():
        configs = [f"--config={config}" for config in (*study.configs, *overrides)]
        args = [*configs, *fit_args, "--name", study.experiment(variant)]
        try:
            experiments[variant] = plan(args, study.folds, study.seeds, launch)
        except MTMSAError as error:
            raise type(error)(f"variant {variant}: {error}") from error
    return experiments

"""Which process of a launch speaks."""

import logging

import pytest

from mtmsa_lightning._utils.logs import to_console

TASK = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, True),
        (TASK | {"SLURM_PROCID": "0"}, True),
        (TASK | {"SLURM_PROCID": "3"}, False),
        ({"RANK": "1"}, False),
    ],
)
def test_one_process_of_a_launch_speaks(variables, said, monkeypatch, capsys):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    to_console()
    logging.getLogger("mtmsa_lightning").info("epoch 1")
    assert capsys.readouterr().out == ("epoch 1\n" if said else "")

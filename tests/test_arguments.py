"""What argparse says of a wrong value, in every verb that takes one."""

import pytest

from mtmsa_lightning.cli import main

MISTAKES = [
    (["export", "--ckpt_path", "c", "--format", "onx"], "--format: must be one of onnx, torch-export, saf"),
    (
        ["export", "--ckpt_path", "c", "--format", "onnx", "--precision", "8"],
        "one of fp32, fp16, int8, not '8'",
    ),
    (["app", "--ckpt_path", "c", "--port", "http"], "--port: must be a whole number, not 'http'"),
    (["app", "--ckpt_path", "c", "--max_mb", "all"], "--max_mb: must be a number, not 'all'"),
    (["audit", "--out", "a", "--near", "1.5"], "--near: must be a whole number, not '1.5'"),
    (["calibrate", "--ckpt_path", "c", "--max_width", "x"], "--max_width: must be a number"),
    (["compare", "a", "b", "--draws", "many"], "--draws: must be a whole number"),
    (["crossval", "--seeds", "0", "x"], "--seeds: must be a whole number"),
    (
        ["predict", "a.jpg", "--ckpt_path", "c", "--out", "a.csv", "--batch_size", "x"],
        "--batch_size: must be",
    ),
    (["prepare", "morph", "--root", "a", "--out", "b", "--margin", "x"], "--margin: must be a number"),
    (["reproduce", "components", "--parallel", "x"], "--parallel: must be a whole number"),
    (["synthesize", "morph", "--out", "a", "--size", "x"], "--size: must be a whole number"),
]


@pytest.mark.parametrize(("command", "said"), MISTAKES)
def test_a_wrong_value_is_told_in_words(command, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err

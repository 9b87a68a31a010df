"""Wrong options and values of every verb with a parser of its own: one line each, before heavy imports."""

import pytest

MISTAKES = [
    (["export", "--ckpt_path", "c", "--format", "onx"], "--format: must be one of onnx, torch-export, saf"),
    (
        ["export", "--ckpt_path", "c", "--format", "onnx", "--precision", "8"],
        "one of fp32, fp16, int8, not '8'",
    ),
    (["app", "--ckpt_path", "c", "--port", "http"], "--port: must be a whole number, not 'http'"),
    (["app", "--ckpt_path", "c", "--max_mb", "all"], "--max_mb: must be a number, not 'all'"),
    (["app", "--ckpt_path", "c", "--max_mb", "0"], "--max_mb: must be a number above 0, not '0'"),
    (["app", "--ckpt_path", "c", "--port", "99999"], "must be a whole number from 0 to 65535, not '99999'"),
    (["calibrate", "--ckpt_path", "c", "--min_group_prob", "1.5"], "--min_group_prob: must be a number bet"),
    (["calibrate", "--ckpt_path", "c", "--max_width", "inf"], "--max_width: must be a number above 0"),
    (["crossval", "--seeds=-1"], "--seeds: must be a whole number from 0, not '-1'"),
    (["audit", "--out", "a", "--min_sharpness=-1"], "--min_sharpness: must be a number from 0, not '-1'"),
    (
        ["prepare", "--root", "a", "--out", "b", "--size", "32"],
        "--size: must be a whole number from 64 to 1024, not '32'",
    ),
    (
        ["prepare", "--root", "a", "--out", "b", "--margin", "3"],
        "--margin: must be a number from -0.25 to 2, not '3'",
    ),
    (["audit", "--out", "a", "--near", "1.5"], "--near: must be a whole number, not '1.5'"),
    (["calibrate", "--ckpt_path", "c", "--max_width", "x"], "--max_width: must be a number"),
    (["calibrate", "--ckpt_path", "c", "--max_fpr", "1"], "between 0 and 1, not '1'; for 1 % write 0.01"),
    (["calibrate", "--ckpt_path", "c", "--max_fpr", "5%"], "between 0 and 1, not '5%'; for 5 % write 0.05"),
    (["calibrate", "--ckpt_path", "c", "--confidence", "95"], "not '95'; for 95 % write 0.95"),
    (["calibrate", "--ckpt_path", "c", "--confidence", "0"], "not '0'; for 5 % write 0.05"),
    (["compare", "a", "b", "--draws", "many"], "--draws: must be a whole number"),
    (["crossval", "--seeds", "0", "x"], "--seeds: must be a whole number"),
    (
        ["predict", "a.jpg", "--ckpt_path", "c", "--out", "a.csv", "--batch_size", "x"],
        "--batch_size: must be",
    ),
    (
        ["prepare", "--data", "morph", "--root", "a", "--out", "b", "--margin", "x"],
        "--margin: must be a number",
    ),
    (["reproduce", "components", "--parallel", "x"], "--parallel: must be a whole number"),
    (["synthesize", "morph", "--out", "a", "--size", "x"], "--size: must be a whole number"),
    (["synthesize", "morph", "--out", "a", "--size", "0"], "--size: must be a whole number from 16, not '0'"),
    (["synthesize", "morph", "--out", "a", "--seed=-1"], "--seed: must be a whole number from 0, not '-1'"),
    (["synthesize", "morph"], "give --out: `mtmsa synthesize --help` lists the options"),
    (["synthesize", "morf", "--out", "a"], "layout: invalid choice: 'morf' (choose from"),
    (["compare", "a"], "give other: `mtmsa compare --help` lists the options"),
    (["compare", "a", "b", "--draws", "0"], "--draws: must be a whole number from 1, not '0'"),
    (["compare", "a", "b", "--confidence", "3"], "there is no option --confidence: `mtmsa compare --help`"),
    (
        ["crossval", "--config", "demo.yaml", "--fold", "1"],
        "no option --fold: did you mean --folds?",
    ),
    (["crossval", "--parallel", "0"], "--parallel: must be a whole number from 1, not '0'"),
    (["evaluate", "--ckpt_path", "c", "--face", "false"], "no option --face: did you mean --faces?"),
    (["predict"], "give paths of images: `mtmsa predict --help` lists the options"),
    (["predict", "a.jpg", "--ckpt_path", "c", "--out", "a.csv", "--detectt"], "did you mean --detect?"),
    (["predict", "a.jpg", "--ckpt_path", "c", "--out", "a.csv", "--batch_size", "0"], "from 1, not '0'"),
    (["predict", "merge", "nowhere", "--out", "a.csv"], "nowhere: no such folder"),
    (["prepare", "merge", "nowhere", "--out", "a"], "nowhere: no such folder"),
    (["prepare", "--data", "morph"], "give --out: `mtmsa prepare --help` lists the options"),
    (["prepare", "--data", "morph", "--out", "a"], "give --root DIR, the release"),
    (
        ["prepare", "--data", "synthetic", "--root", "a", "--out", "b"],
        "--data synthetic: choose one of morph,",
    ),
    (
        ["prepare", "--data", "morph", "--root", "a", "--out", "b", "--data.variant", "faces"],
        "there is no option --data.variant: morph takes --data, --root, --columns",
    ),
    (
        ["predict", "a.jpg", "--ckpt_path", "c", "--out", "a.csv", "--strict", "yes"],
        "must be true or false, not 'yes'",
    ),
    (["predict", "a.jpg", "--ckpt_path", "c", "--out", "a.csv", "--strict"], "--strict: needs a value"),
    (["fit", "--data", "csv", "--columns", "age"], "--columns age: name columns as OURS=THEIRS"),
    (["fit", "--rot", "a"], "there is no option --rot: did you mean --root?"),
    (
        ["prepare", "--data", "morph", "--root", "a", "--out", "b", "--max_unreadable", "7"],
        "a number from 0 to 1",
    ),
    (["prepare", "--data", "morph", "--root", "a", "--out", "b", "--sise", "7"], "did you mean --size?"),
    (["audit", "--out", "a", "--near=-1"], "--near: must be a whole number from 0, not '-1'"),
    (["audit", "--root", "a"], "give --out: `mtmsa audit --help` lists the options"),
    (["check", "--rot", "a"], "there is no option --rot: did you mean --root?"),
    (["calibrate", "--ckpt_path", "c", "--part", "test"], "--part: invalid choice: 'test'"),
    (["calibrate", "--ckpt_path", "c", "--max_with", "3"], "did you mean --max_width?"),
    (["export", "--ckpt_path", "c"], "give --format: `mtmsa export --help` lists the options"),
    (["reproduce", "component"], "component: no such study; did you mean components?"),
    (["reproduce"], "give STUDY: `mtmsa reproduce --help` lists the options"),
    (["app", "--ckpt_path", "c", "--prot", "80"], "there is no option --prot: did you mean --port?"),
    (["test", "--ckpt_path", "last"], "continues a training: give a checkpoint or a run directory"),
]


@pytest.mark.parametrize(("command", "said"), MISTAKES)
def test_a_mistake_is_one_line(command, said, fails):
    message = fails(*command)
    assert said in message
    assert len(message.splitlines()) == 1

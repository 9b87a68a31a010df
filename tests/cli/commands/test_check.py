import shlex

import pytest

from mtmsa_lightning.cli.commands.check import command, fit_arguments, parser
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.data.synthetic import write_utkface


def check(*args):
    """Return the exit status of ``mtmsa check``."""
    try:
        main(["check", *map(str, args)])
    except SystemExit as stopped:
        return stopped.code
    return 0


def arguments(*args) -> list[str]:
    return fit_arguments(*parser().parse_known_args([str(arg) for arg in args]))


@pytest.fixture(scope="module")
def utkface(tmp_path_factory):
    root = tmp_path_factory.mktemp("check") / "utkface"
    write_utkface(root, n_faces=40, size=64)
    return root


@pytest.mark.slow
def test_the_command_it_ends_with_trains(tiny_config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check("--config", tiny_config, "--data.fold", 1) == 0
    said = capsys.readouterr().out
    assert "* subject_exclusive train" in said
    assert "fold 1 of 5" in said
    assert "not here: protocol 'setting_a' needs 5,492 White faces" in said
    assert "MAE of the mean age (years)" in said
    assert "subjects that differ in birth date: 1 (2 pictures)" in said
    assert "cost on 1 x cpu, 32-true, 64 px" in said
    assert "for 2 epochs" in said
    assert not list(tmp_path.iterdir()), "a check leaves nothing behind"
    last = said.splitlines()[-1]
    assert last == f"  mtmsa fit --config {tiny_config} --data.fold 1"
    words = shlex.split(last)[1:]
    main([*words, "--trainer.default_root_dir", str(tmp_path), "--trainer.fast_dev_run", "true"])


def test_an_error_in_the_labels_sets_the_status_and_a_rule_mends_it(utkface, capsys):
    assert check("--root", utkface, "--timing=false") == 1
    said = capsys.readouterr().out
    assert "error   pictures with conflicting labels: 1 (2 files)  -> --data.clean [drop-conflicting]" in said
    assert "cost on" not in said
    assert check("--root", utkface, "--timing=false", "--data.clean", "[drop-conflicting]") == 0
    assert capsys.readouterr().out.endswith("--data.clean '[drop-conflicting]'\n")
    assert check("--root", utkface, "--timing=false", "--data.clean=[drop-conflicting]") == 0
    said = capsys.readouterr().out
    assert "cleaned by drop-conflicting@1" in said
    assert said.splitlines()[-1] == (
        f"""  mtmsa fit --config utkface.yaml --data.root {utkface} --data.clean '[drop-conflicting]'"""
    )


def test_the_shipped_config_of_the_dataset_is_taken(utkface, clean_release):
    assert arguments("--root", utkface) == ["--config=utkface.yaml", f"--data.root={utkface}"]
    assert arguments("--data", "morph", "--root", utkface)[0] == "--config=morph.yaml"
    assert arguments("--root", clean_release)[:2] == ["--config=csv.yaml", f"--data.root={clean_release}"]
    assert arguments("--config", "mine.yaml", "--model.weights", "null") == [
        "--config=mine.yaml", "--model.weights", "null",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "given", "protocol"),
    [
        ("subject", [], "subject_exclusive"),
        ("note", [], "random"),
        ("subject", ["--data.protocol", "random"], "random"),
    ],
)
def test_the_command_for_a_table_has_the_protocol_that_fits(clean_release, capsys, header, given, protocol):
    text = (clean_release / "faces.csv").read_text().replace("subject", header, 1)
    table = clean_release / f"check-{header}.csv"
    table.write_text(text)
    assert (
        check("--data", "csv", "--root", clean_release, "--data.table", table.name, *given, "--timing=false")
        == 0
    )
    said = capsys.readouterr().out
    last = shlex.split(said.splitlines()[-1])
    assert last[:4] == ["mtmsa", "fit", "--config", "csv.yaml"]  # whose default chooses by the table
    assert [last[at + 1] for at, word in enumerate(last) if word == "--data.protocol"] == given[1:]
    assert f"\n  * {protocol} " in said
    table.unlink()


def test_the_command_for_age_groups_chooses_the_checkpoint_by_their_likelihood(clean_release, capsys):
    lines = (clean_release / "faces.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    groups = [",".join([path, f"{int(age) // 10 * 10}s", *rest]) for path, age, *rest in rows]
    table = clean_release / "check-groups.csv"
    table.write_text("\n".join([lines[0], *groups, ""]))
    assert check("--data", "csv", "--root", clean_release, "--data.table", table.name, "--timing=false") == 0
    assert capsys.readouterr().out.rstrip().endswith("--checkpoint.monitor val/age_interval_nll")
    table.unlink()


def test_data_without_a_training_part_is_to_test(clean_release, capsys):
    given = ("--data", "csv", "--root", clean_release, "--data.protocol", "whole")
    assert check(*given) == 0  # without timing, because nothing is trained
    said = capsys.readouterr().out
    assert "guess" not in said
    assert said.splitlines()[-2:] == [
        "to test:",
        f"  mtmsa test --ckpt_path RUN --config csv.yaml --data.root {clean_release} --data.protocol whole",
    ]


def test_a_command_is_written_as_one_types_it():
    words = ["--config=a.yaml", '--data.columns={"age": "x=y"}', "--model.msa", "{rates: [1, 2]}", "a=b"]
    typed = command(words)
    assert typed == (
        """mtmsa fit --config a.yaml --data.columns '{"age": "x=y"}' --model.msa '{rates: [1, 2]}' a=b"""
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--root", "nowhere"], "no such folder"),
        (["--root", __file__], "is a file; give its folder"),
        (["--root", "a" * 5000], "File name too long"),
        (["--model.wieghts", "null"], "did you mean --model.weights"),
        (["--data.fold", "7"], "no fold 7"),
        (["--data.val_fraction", "0", "--timing=false"], "leaves no validation faces"),
        (["--data.clean", "[tidy]"], "there is no rule 'tidy'"),
    ],
)
def test_mistakes_have_status_2(fails, tiny_config, args, said):
    given = [] if args[0] == "--root" else ["--config", tiny_config]
    assert said in fails("check", *given, *args)

"""Wrong command lines of ``fit`` and the one message that each gives, as far as parsing goes."""

from argparse import ArgumentError

import pytest

from mtmsa_lightning.errors import ConfigError, MTMSAError
from mtmsa_lightning.settings.error_messages import Known, as_config_error, explain
from mtmsa_lightning.training.early_checks import check_arguments
from mtmsa_lightning.training.lightning_cli import UnstartedCLI
from mtmsa_lightning.training.setting_hints import CHOSEN
from mtmsa_lightning.training.trainer_commands import run_trainer_command

NO_DATA = "name a config, e.g. `--config morph.yaml`, or a DataModule, e.g. `--data FaceCSV`"
WRONG = [
    # no config, or something that is none
    ("", NO_DATA),
    ("--data.fold 2", NO_DATA),
    ("--config heads/coral.yaml", NO_DATA),
    ("demo.yaml", "demo.yaml: write --config demo.yaml"),
    ("--config", "--config needs the name of a file, e.g. `--config morph.yaml`"),
    ("--config morhp.yaml", "did you mean morph.yaml?"),
    ("--config nothing-like-it", "shipped are adience.yaml, agedb.yaml, csv.yaml"),
    ("--config studies/components.yaml", "a study, not a config: `mtmsa reproduce` runs it"),
    ("--config sweeps/msa.yaml", "a W&B sweep, not a config: `wandb sweep` runs it"),
    ("TINY demo.yaml", "demo.yaml: write --config demo.yaml"),
    ("TINY --ckpt_path nowhere", "nowhere: no such checkpoint: give a .ckpt file"),
    # settings that do not exist
    ("TINY --model.backbone resnet51", "resnet51 is not one of resnet18, resnet34, resnet50, nor a"),
    ("TINY --model.backbone timm/vit_tiny_patch16_224", "patch16_224 is not a convolutional network of four"),
    ("TINY --model.backbone timm/resnet18 --model.stem_pool false", "belong to ResNets, not to timm/"),
    ("TINY --model.lr_factors.layer_decay 2", "lr_factors.layer_decay 2.0 must be above 0 and at most 1"),
    ("TINY --model.lr_factors.trunk -1", "lr_factors.trunk -1.0 must be at least 0"),
    ("TINY --model.mas null", "there is no setting model.mas: did you mean --model.msa?"),
    ("TINY --model.lr 0.1", "there is no setting model.lr: did you mean --model.optimizer.lr?"),
    ("TINY --lr 0.1", "there is no setting lr: did you mean --model.optimizer.lr?"),
    ("TINY --batch_size 8", "there is no setting batch_size: did you mean --data.batch_size?"),
    ("TINY --fold 1", "there is no setting fold: did you mean --data.fold?"),
    ("TINY --max_epochs 1", "there is no setting max_epochs: did you mean --trainer.max_epochs?"),
    ("TINY --epochs 1", "did you mean --trainer.max_epochs or --trainer.min_epochs?"),
    ("TINY --seed 1", "there is no setting seed: give --seed_everything, of the run, or --data.seed, of"),
    ("TINY --resume", "there is no setting resume: --ckpt_path last continues the newest run"),
    ("TINY -v", "there is no option -v: `mtmsa COMMAND --help` lists all"),
    ("TINY --modle.weights null", "there is no setting modle.weights: did you mean --model.weights?"),
    ("TINY --data.fodl 2", "there is no setting data.fodl: did you mean --data.fold?"),
    ("--data Mixture --data.root x", "there is no setting data.root: Mixture has sources, weights, caps"),
    ("--data Mixture --data.sources AgeDB", "data.sources AgeDB: must be a list: [AgeDB], or --data."),
    ("--data Mixture --data.sources [AgeDB] --data.sources.prtocol x", "of the class given in data.sources?"),
    ("--data Mixture --data.caps {a:1.5}", "data.caps {a:1.5}: must be a mapping, such as '{name: value}'"),
    ("TINY --data.batchsize 2", "there is no setting data.batchsize: did you mean"),
    ("TINY --trainer.max_epoch 2", "there is no setting trainer.max_epoch: did you mean"),
    ("TINY --model.msa.rate [1]", "there is no setting model.msa.rate: did you mean"),
    ("TINY --model.age.min_age 0", "there is no setting model.age.min_age: GaussianAgeHead has form, beta,"),
    ("TINY --model.optimizer.momentum 1", "there is no setting model.optimizer.momentum: AdamW has lr,"),
    ("TINY --trainer.callbacks EarlyStopping --trainer.callbacks.monitr x", "did you mean"),
    # classes
    ("TINY --model.age Corall", "model.age Corall: there is no class of that name; did you mean"),
    ("TINY --model.age DLDL", "did you mean DLDLAgeHead or DLDLv2AgeHead?"),
    ("TINY --model.age zzz", "choose one of CoralAgeHead, CornAgeHead, CrossEntropyAgeHead"),
    ("TINY --model.age nowhere.Head", "model.age nowhere.Head: No module named 'nowhere'"),
    ("TINY --model.age torch.nn.Linear", "Expected 'torch.nn.Linear' to be a subclass of AgeHead."),
    ("TINY --model.gender false", "model.gender false: write null for none"),
    ("TINY --model.race None", "model.race None: write null for none"),
    ("TINY --model.optimizer adamm", "did you mean Adam"),
    ("TINY --model.scheduler Cosine", "did you mean WarmupCosine or CosineAnnealingLR?"),
    ("TINY --model.scheduler OneCycleLR", "OneCycleLR needs max_lr: give --model.scheduler.max_lr VALUE"),
    ("TINY --model.scheduler CosineAnnealingLR", "CosineAnnealingLR needs T_max: give"),
    ("TINY --model.scheduler ReduceLROnPlateau", "lightning.pytorch.cli.ReduceLROnPlateau"),
    ("TINY --data MORPHH", "data MORPHH: there is no class of that name; did you mean MORPH?"),
    ("TINY --data utkface", "did you mean UTKFace?"),
    ("TINY --trainer.callbacks EarlyStopping", "EarlyStopping needs monitor: give"),
    ("TINY --trainer.callbacks+=EarlyStoping", "trainer.callbacks EarlyStoping: there is no class of that"),
    ("TINY --trainer.logger TensorBoard", "there is no class of that name; did you mean TensorBoardLogger?"),
    ("TINY --trainer.logger TensorBoardLogger", "TensorBoardLogger needs save_dir: give"),
    # values
    ("TINY --model.msa.rates 1,2,5", "model.msa.rates 1,2,5: must be a list in brackets: [1,2,5]"),
    ("TINY --data.clean drop-conflicting", "data.clean drop-conflicting: must be a list in brackets: [drop-"),
    ("TINY --model.msa.placement inside", "model.msa.placement inside: must be one of after_stage,"),
    ("TINY --model.msa.stages [5]", "stages must be different ones of 1, 2, 3, 4, got [5]"),
    ("TINY --model.optimizer.lr fast", "model.optimizer.lr fast: must be a number"),
    ("TINY --trainer.max_epochs many", "trainer.max_epochs many: must be a whole number"),
    ("TINY --trainer.max_epochs", "--trainer.max_epochs: expected one argument"),
    ("TINY --trainer.gradient_clip_val x", "trainer.gradient_clip_val x: must be a number"),
    ("TINY --trainer.precision bf16mixed", "trainer.precision bf16mixed: must be one of"),
    ("TINY --data.fold five", "data.fold five: must be a whole number"),
    (
        "TINY --data.protocol subject",
        "protocol 'subject' is not supported by morph: choose one of subject_exclusive, random",
    ),
    ("TINY --checkpoint.mode least", "checkpoint.mode least: must be one of min, max"),
    ("TINY --wandb on", "wandb on: must be one of online, offline, disabled"),
    ("TINY --ema yes", "ema yes: must be a number"),
]  # fmt: skip


def parse(args):
    """Do what ``mtmsa fit`` does before it opens a run."""
    check_arguments("fit", args)
    run_trainer_command("fit", args, UnstartedCLI)


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line or "nothing" for line, _ in WRONG])
def test_a_wrong_line_gives_one_message_with_what_to_do(tiny_config, line, said):
    args = line.replace("TINY", f"--config {tiny_config}").split()
    with pytest.raises(MTMSAError) as raised:
        parse(args)
    message = str(raised.value)
    assert said in message
    assert len(message) < 500
    assert "\n" not in message
    for prose in ("Parser key", "Union", "Namespace", "NestedArg", "<class", "not accessible"):
        assert prose not in message


def test_a_record_of_a_run_and_its_folder_are_no_configs(tmp_path):
    (tmp_path / "config.yaml").write_text("name: x\n")
    (tmp_path / "run.json").write_text('{"command": "mtmsa fit", "versions": {}}')
    for name, said in ((tmp_path / "run.json", "config.yaml beside it"), (tmp_path, "did you mean")):
        with pytest.raises(ConfigError, match=said):
            check_arguments("fit", ["--config", str(name)])


def test_a_typo_in_a_config_file_is_named_as_configs_spell_it(tiny_config, tmp_path):
    (tmp_path / "typo.yaml").write_text("model: {lr: 0.1}\n")
    args = [f"--config={tiny_config}", f"--config={tmp_path / 'typo.yaml'}"]
    with pytest.raises(ConfigError, match=r"model\.lr: did you mean --model\.optimizer\.lr\?"):
        run_trainer_command("fit", args, UnstartedCLI)


def test_every_class_that_is_offered_can_be_chosen():
    for path, chosen in CHOSEN.items():
        assert chosen.names, path
        for name in chosen.names:
            assert hasattr(chosen.home, name) or name == "WarmupCosine"


def test_errors_that_are_not_the_users_keep_their_traceback():
    assert explain(RuntimeError("shapes differ"), lambda: pytest.fail("not needed")) is None


def test_a_config_that_has_been_moved_meanwhile_does_not_hide_the_error():
    def moved() -> Known:
        raise ConfigError("--config x.yaml: no such file")

    assert "there is no setting zzz" in explain(ArgumentError(None, "unrecognized arguments: --zzz 3"), moved)


def raised_in(module: str, source: str) -> None:
    """Run code as a constructor of a module would."""
    exec(source, {"__name__": module})


@pytest.mark.parametrize(
    "source", ["raise ValueError('no such width')", "1 + 'x'", "import json; json.loads('')"]
)
def test_errors_from_within_a_class_of_the_users_own_keep_their_traceback(source):
    with pytest.raises((TypeError, ValueError)) as raised, as_config_error():
        raised_in("mylab.heads", source)
    assert not isinstance(raised.value, MTMSAError)
    for module in (
        "jsonargparse._core",
        "torch.optim.adam",
        "lightning.pytorch.trainer",
        "mtmsa_lightning.module",
    ):
        with pytest.raises(ConfigError), as_config_error("model.age"):
            raised_in(module, source)


def test_where_nothing_is_near_help_is_named():
    message = explain(
        ArgumentError(None, "unrecognized arguments: --zzz 3"), lambda: Known({"": ["model", "data"]})
    )
    assert message == "there is no setting zzz: `mtmsa COMMAND --help` lists all"

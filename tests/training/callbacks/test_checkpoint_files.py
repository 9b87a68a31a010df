import pandas as pd
import torch

from mtmsa_lightning import MTMSA
from mtmsa_lightning.cli.main import main
from mtmsa_lightning.runs.run_json import read_record
from mtmsa_lightning.training.callbacks.monitor_check import unknown_metric


def test_one_checkpoint_of_a_run_continues_it_and_the_best_holds_weights_alone(trained):
    best, last = (
        torch.load(trained / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last")
    )
    assert {"optimizer_states", "lr_schedulers", "loops", "callbacks"} <= last.keys()
    assert best.keys() == {
        "epoch", "global_step", "pytorch-lightning_version", "state_dict", "hyper_parameters", "hparams_name",
        "provenance",
    }  # fmt: skip
    assert best["state_dict"].keys() == last["state_dict"].keys()
    assert best["provenance"]["fingerprints"] == last["provenance"]["fingerprints"]


def test_a_training_cannot_be_continued_from_the_best_checkpoint_but_started_from_it(
    fails, trained, tiny_config, tmp_path
):
    best, place = trained / "checkpoints" / "best.ckpt", ["--trainer.default_root_dir", tmp_path]
    message = fails("fit", "--config", tiny_config, "--ckpt_path", best, *place)
    assert (
        f"{best} holds weights only: continue its run by --ckpt_path {trained}/checkpoints/last.ckpt"
        in message
    )
    assert f"or train from its weights by --model.weights {best}" in message
    assert not list(tmp_path.iterdir())
    main([
        "fit", "--config", str(tiny_config), f"--model.weights={best}",
        f"--trainer.default_root_dir={tmp_path}",
        "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--test_after_fit=false",
        "--model.optimizer.init_args.lr=0",
    ])  # fmt: skip
    (run,) = (tmp_path / "tiny").iterdir()
    before, after = (dict(MTMSA.load(str(each)).trunk.named_parameters()) for each in (trained, run))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_continued_run_still_knows_its_best_epoch(tiny_config, tmp_path):
    """The best checkpoint has no state of its callback: the last one remembers it."""
    run = tmp_path / "run"
    fit = ["fit", "--config", str(tiny_config), f"--run_dir={run}", "--test_after_fit=false", "--ema=0.5"]
    for epochs in (1, 3):
        main([*fit, f"--trainer.max_epochs={epochs}"])
    column = pd.read_csv(run / "metrics.csv")["val/age_mae"]
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert (best["epoch"], read_record(run)["best_epoch"]) == (column.argmin(), column.argmin())
    assert sorted(file.name for file in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_the_monitor_of_age_groups_is_named():
    message = unknown_metric("checkpoint.monitor", "val/age_mae", ["val/race_ece", "val/age_interval_nll"])
    assert "its labels are age groups: --checkpoint.monitor val/age_interval_nll; there are" in message

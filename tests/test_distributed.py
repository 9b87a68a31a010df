"""Two processes on the CPU against one. A DDP launcher re-runs the command line, so each is a subprocess."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

pytestmark = pytest.mark.slow
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def mtmsa(*args: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": os.environ.get("TMPDIR", "/tmp")}
    command = [sys.executable, "-m", "mtmsa_lightning", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figures(root: Path) -> tuple[dict, pd.DataFrame]:
    (run,) = (root / "tiny").iterdir()
    return json.loads((run / "run.json").read_text()), pd.read_parquet(run / "predictions" / "test.parquet")


def test_two_processes_test_exactly_like_one(trained, tmp_path):
    part = ["--data.protocol", "random", "--data.fold", 4, "--allow_overlap", "true"]  # 13 of 67 faces
    for root, devices in (("one", ()), ("two", TWO)):
        where = ["--trainer.default_root_dir", tmp_path / root, "--trainer.precision", "64-true"]
        mtmsa("test", "--ckpt_path", trained, *part, *where, *devices)
    one, alone = figures(tmp_path / "one")
    record, faces = figures(tmp_path / "two")
    assert len(faces) == 13, "neither 2 nor 3 divides it: one process has a face less"
    assert record["world_size"] == 2
    for name, value in one["test"].items():
        assert record["test"][name] == pytest.approx(value, abs=1e-6), name
    assert faces["id"].tolist() == alone["id"].tolist()
    np.testing.assert_allclose(faces["age_mean"], alone["age_mean"], atol=1e-6)


def test_a_fit_on_two_processes_keeps_one_run_and_speaks_once(tiny_config, tmp_path):
    printed = mtmsa(
        "fit", "--config", tiny_config, "--trainer.default_root_dir", tmp_path, *TWO,
        "--model.freeze_epochs", "1", "--model.weighting", "learned", "--ema", "0.9",
    )  # fmt: skip
    record, faces = figures(tmp_path)
    assert printed.count("epoch 2/2") == 1, "only the first process speaks"
    assert "age MAE" in printed
    (run,) = (tmp_path / "tiny").iterdir()
    metrics = pd.read_csv(run / "metrics.csv")
    assert metrics["epoch"].tolist() == [0, 1]
    error = (faces["age_mean"] - faces["label_age_low"]).abs().mean()
    assert record["test"]["test/age_mae"] == pytest.approx(error, abs=1e-6)


JOINED = """
import sys, torch, torch.distributed as dist
from mtmsa_lightning import MTMSA
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
torch.set_num_threads(1)
batch = torch.load(f"{folder}/batch.pt", weights_only=True)
model = MTMSA(msa=None, weighting="learned", race_classes=("white", "black")).double().eval()
model.load_state_dict(torch.load(f"{folder}/weights.pt", weights_only=True))
half = {name: value[rank::2] for name, value in batch.items()}
class Loss(torch.nn.Module):
    def __init__(self, model): super().__init__(); self.model = model
    def forward(self, batch):
        return self.model.total_loss(self.model.losses(self.model(batch["image"]), batch))
wrapped = torch.nn.parallel.DistributedDataParallel(Loss(model))
wrapped(half).backward()
torch.save({name: p.grad for name, p in model.named_parameters()}, f"{folder}/gradient{rank}.pt")
"""


def test_two_ranks_give_the_gradient_of_the_joined_batch(tmp_path):
    """Exact ages, groups and missing labels mixed; the second rank has no race label at all."""
    from mtmsa_lightning import MTMSA

    torch.manual_seed(0)
    low = torch.tensor([20, 31, 25, 60, float("nan"), 44, 18], dtype=torch.float64)
    high = torch.tensor([20, 31, 32, 100, float("nan"), 44, 18], dtype=torch.float64)
    batch = {
        "image": torch.rand(7, 3, 64, 64, dtype=torch.float64),
        "age_low": low,
        "age_high": high,
        "gender": torch.tensor([0, 1, -1, 1, 0, -1, 1]),
        "race": torch.tensor([0, -1, 1, -1, 1, -1, 0]),
    }
    model = MTMSA(msa=None, weighting="learned", race_classes=("white", "black")).double().eval()
    model.age.set_age_statistics(33.0, 11.0)
    torch.save(batch, tmp_path / "batch.pt")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    model.total_loss(model.losses(model(batch["image"]), batch)).backward()
    ranks = [subprocess.Popen([sys.executable, "-c", JOINED, str(rank), str(tmp_path)]) for rank in (0, 1)]
    assert [rank.wait(timeout=200) for rank in ranks] == [0, 0]
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"gradient{rank}.pt", weights_only=True)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-9, atol=1e-12, msg=name)


UNFREEZE = """
import sys, torch
from lightning.pytorch import Trainer, Callback
from mtmsa_lightning import MORPH, MTMSA, MSAConfig
class Dump(Callback):
    def on_train_end(self, trainer, module):
        torch.save(module.state_dict(), f"{sys.argv[2]}/rank{trainer.global_rank}.pt")
    def on_train_epoch_end(self, trainer, module):
        if trainer.is_global_zero:
            torch.save(module.trunk.state_dict(), f"{sys.argv[2]}/epoch{trainer.current_epoch}.pt")
data = MORPH(root=sys.argv[1], image_size=64, batch_size=8, num_workers=0, crop=1.0)
torch.manual_seed(0)
model = MTMSA(msa=MSAConfig((1,), (1,)), freeze_epochs=1, image_size=64, race_classes=data.race_classes)
torch.save(model.trunk.state_dict(), f"{sys.argv[2]}/start.pt")
Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, callbacks=[Dump()],
        enable_checkpointing=False, enable_progress_bar=False, use_distributed_sampler=False,
        default_root_dir=sys.argv[2]).fit(model, data)
"""


def test_a_frozen_trunk_stays_and_unfreezes_alike_on_all_ranks(morph_root, tmp_path):
    script = tmp_path / "unfreeze.py"
    script.write_text(UNFREEZE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(morph_root), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    load = {name: torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in
            ("start", "epoch0", "epoch1", "rank0", "rank1")}  # fmt: skip
    resnet = [name for name in load["start"] if not name.startswith("msa.")]
    assert all(torch.equal(load["start"][name], load["epoch0"][name]) for name in resnet), "frozen"
    moved = [name for name in resnet if not torch.equal(load["epoch0"][name], load["epoch1"][name])]
    assert len(moved) == len(resnet), "unfrozen, BatchNorm statistics too"
    attention = [name for name in load["start"] if name.startswith("msa.")]
    assert any(not torch.equal(load["start"][name], load["epoch0"][name]) for name in attention)
    trainable = {name for name, _ in __import__("mtmsa_lightning").MTMSA().named_parameters()}
    for name in load["rank0"].keys() & trainable:
        assert torch.equal(load["rank0"][name], load["rank1"][name]), name

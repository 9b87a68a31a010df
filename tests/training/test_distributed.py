"""Two and three processes against one."""

import json
import os
import socket
from pathlib import Path

import distributed_work as work
import pandas as pd
import pytest
import torch
import warm_process
from warm_process import WarmProcess

from mtmsa_lightning.metrics.suite import METRICS

pytestmark = pytest.mark.slow
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def mtmsa(*args: object, status: int = 0) -> str:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = warm_process.run("-m", "mtmsa_lightning", *args, environment={"PYTHONPATH": path})
    assert done.poll() == status, done.stdout + done.stderr
    return done.stdout


def metrics(root: Path) -> tuple[dict, pd.DataFrame]:
    (run,) = (root / "tiny").iterdir()
    return json.loads((run / "run.json").read_text()), pd.read_parquet(run / "predictions" / "test.parquet")


def test_a_fit_on_two_processes_is_stopped_and_goes_on_as_one_run_that_speaks_once(tiny_config, tmp_path):
    """A signal to the second process stops both; only the first says so by its status."""
    fit = (
        "fit", "--config", tiny_config, "--trainer.default_root_dir", tmp_path, *TWO,
        "--data.batch_size", "4", "--model.freeze_epochs", "1", "--model.weighting", "learned",
        "--ema", "0.9", "--trainer.callbacks+=distributed_work.SignalAt", "--trainer.callbacks.step", "4",
    )  # fmt: skip
    stopped = mtmsa(*fit, status=75)
    assert stopped.count("stopped by SIGUSR1: saved after batch 2 of epoch 2") == 1
    printed = mtmsa(*fit, "--ckpt_path", "last")
    assert stopped.count("epoch 1/2") == printed.count("epoch 2/2") == 1, "only the first process speaks"
    assert "batch: 4 faces x 2 devices = 8; learning rate 0.001 (not scaled)" in printed
    assert "age MAE" in printed
    record, faces = metrics(tmp_path)
    assert record["batch_size"] == {"per_device": 4, "devices": 2, "accumulated": 1, "global": 8}
    (run,) = (tmp_path / "tiny").iterdir()
    assert pd.read_csv(run / "metrics.csv")["epoch"].tolist() == [0, 1]
    error = (faces["age_mean"] - faces["label_age_low"]).abs().mean()
    assert record["test"]["test/age_mae"] == pytest.approx(error, abs=1e-6)


# ------------------------------------------------------------------ three processes, once


TORCHRUN = """
import sys
from pathlib import Path
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
sys.path.insert(0, sys.argv[1])
import distributed_work
nodes = {"min_nodes": 1, "max_nodes": 1, "nproc_per_node": 3, "run_id": "three"}
config = LaunchConfig(**nodes, rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork")
elastic_launch(config, distributed_work.main)(Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """The folder in which three processes, started by what torchrun calls, have done their common work."""
    folder = tmp_path_factory.mktemp("three")
    work.write_faces(folder)
    done = warm_process.run("-c", TORCHRUN, Path(work.__file__).parent, folder)
    assert done.poll() == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def alone(three, tmp_path_factory):
    """Metrics of the same work by one process, and the folder of its tables."""
    out = tmp_path_factory.mktemp("alone")
    return work.evaluate(1, three, out), out


def of_ranks(three: Path, name: str) -> list[dict]:
    return [json.loads((three / "out" / f"{name}{rank}.json").read_text()) for rank in range(3)]


@pytest.mark.parametrize("head", [*work.HEADS, "calibrated"])
def test_three_processes_validate_and_test_exactly_like_one(three, alone, head):
    """All metrics, with whole ranks that lack labels, and parts that 3 does not divide."""
    expected = alone[0][head]
    found = json.loads((three / "out" / "metrics.json").read_text())["metrics"][head]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
    known = {name.partition("/")[2] for name in expected}
    assert known >= {spec.name for spec in METRICS}, "every metric of the suite is among them"
    undefined = {name for name, value in expected.items() if name.startswith("test/") and value != value}
    assert not undefined, "and has a value"


@pytest.mark.parametrize("table", [*work.HEADS, "calibrated"])
def test_three_processes_predict_every_face_once(three, alone, table):
    faces, expected = (pd.read_parquet(folder / f"{table}.parquet") for folder in (three / "out", alone[1]))
    assert len(expected) == faces["id"].nunique() == work.SIZES["test"]
    pd.testing.assert_frame_equal(faces, expected, atol=1e-6)


def test_validation_inside_fit_is_that_of_one_process(three):
    out = three / "out" / "whole"
    model = work.build(weighting="learned").double()
    model.load_state_dict(torch.load(out / "validated.pt", weights_only=True))
    data = work.faces(three)
    data.setup("fit")
    model.provenance = data.provenance()  # names the race that training faces have
    run = work.trainer(1, three)
    (expected,) = run.validate(model, data, verbose=False)
    for rank in range(3):
        found = json.loads((out / f"val{rank}.json").read_text())
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_no_face_trains_twice(three):
    ids = [rank["ids"] for rank in of_ranks(three, "whole")]
    assert [len(each) for each in ids] == [8] * 3, "four joined batches of six, of 25 faces"
    assert len({name for each in ids for name in each}) == 24


def test_weights_averages_and_task_weights_are_the_same_on_all_ranks(three):
    first, *others = of_ranks(three, "whole")
    for other in others:
        assert other["averaged"] == first["averaged"], "digests"
        same = {name for name in first["logged"] if name.startswith(("train/", "val/"))}
        assert {name: first["logged"][name] for name in same} == pytest.approx(
            {name: other["logged"][name] for name in same}, abs=0, nan_ok=True
        )
    assert "weighting.raw_log_scales.race" in first["moved"]
    assert "gender.linear.bias" not in first["moved"], (
        "a head without labels learns nothing, and nothing hangs"
    )


@pytest.mark.parametrize(("how", "status"), [("signalled", [75, 0, 0]), ("limited", [None] * 3)])
def test_three_processes_stopped_within_an_epoch_end_like_those_left_alone(three, how, status):
    """By a signal, and by max_steps.

    To rounding: DDP orders its buckets anew after a first step, and sums of three have an order.
    """
    for whole, broken in zip(of_ranks(three, "whole"), of_ranks(three, how), strict=True):
        assert broken["batches"] == {"epoch": 0, "batches": 3}, "for the signal, one after its own"
        assert broken["ids"] == whole["ids"][6:]
        assert max(broken["apart"].values()) <= 1e-12
        assert broken["logged"] == pytest.approx(whole["logged"], abs=1e-9, nan_ok=True)
    assert [rank["status"] for rank in of_ranks(three, how)] == status


def test_one_process_computes_metrics_while_the_others_are_elsewhere(three):
    assert json.loads((three / "out" / "metrics.json").read_text())["drawn"] > 5


# ------------------------------------------------------------------ gradients


JOINED = """
import sys, torch, torch.distributed as dist
from mtmsa_lightning import MTMSA
from mtmsa_lightning.runs.teacher import Teacher
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
torch.set_num_threads(1)
batch = torch.load(f"{folder}/batch.pt", weights_only=True)
model, other = (
    MTMSA(msa=None, weighting="learned", race_classes=("white", "black"), teacher_weight=0.3).double().eval()
    for _ in range(2)
)
model.load_state_dict(torch.load(f"{folder}/weights.pt", weights_only=True))
other.load_state_dict(torch.load(f"{folder}/teacher.pt", weights_only=True))
teacher = Teacher({"teacher.pt": other}, model)
half = {name: value[rank::2] for name, value in batch.items()}
class Loss(torch.nn.Module):
    def __init__(self, model): super().__init__(); self.model = model
    def forward(self, batch):
        output = self.model(batch["image"])
        soft = teacher.losses(output, batch["image"])
        return self.model.total_loss(self.model.losses(output, batch), soft)
wrapped = torch.nn.parallel.DistributedDataParallel(Loss(model))
loss = wrapped(half)
loss.backward()
dist.all_reduce(loss := loss.detach())
gradients = {name: p.grad for name, p in model.named_parameters()}
torch.save({"loss": loss / 2, **gradients}, f"{folder}/gradient{rank}.pt")
"""


def test_two_ranks_give_the_loss_and_gradient_of_the_joined_batch(tmp_path):
    """Exact ages, groups, missing labels and a teacher; the second rank has no race label at all."""
    from mtmsa_lightning import MTMSA
    from mtmsa_lightning.runs.teacher import Teacher

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
    settings = {
        "msa": None,
        "weighting": "learned",
        "race_classes": ("white", "black"),
        "teacher_weight": 0.3,
    }
    model, other = (MTMSA(**settings).double().eval() for _ in range(2))
    model.age.set_age_statistics(33.0, 11.0)
    other.age.set_age_statistics(30.0, 12.0)
    torch.save(batch, tmp_path / "batch.pt")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    torch.save(other.state_dict(), tmp_path / "teacher.pt")
    output = model(batch["image"])
    soft = Teacher({"teacher.pt": other}, model).losses(output, batch["image"])
    loss = model.total_loss(model.losses(output, batch), soft)
    loss.backward()
    ranks = [WarmProcess("-c", JOINED, rank, tmp_path) for rank in (0, 1)]
    assert [rank.wait() for rank in ranks] == [0, 0]
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"gradient{rank}.pt", weights_only=True)
        assert float(gradients["loss"]) == pytest.approx(loss.item(), rel=1e-12)
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
Trainer(max_epochs=2, limit_train_batches=2, limit_val_batches=1, accelerator="cpu", devices=2,
        strategy="ddp", logger=False, callbacks=[Dump()],
        enable_checkpointing=False, enable_progress_bar=False, use_distributed_sampler=False,
        default_root_dir=sys.argv[2]).fit(model, data)
"""


def test_a_frozen_trunk_stays_and_unfreezes_alike_on_all_ranks(morph_root, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "NODE_RANK": "0"}
    ranks = [
        WarmProcess("-c", UNFREEZE, morph_root, tmp_path, environment=where | {"LOCAL_RANK": str(rank)})
        for rank in (0, 1)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].stderr + ranks[1].stderr
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

"""Work of a process in ``test_mixture_training``: train and test on a mixture, with exact sums."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from mixed_sources import SIZES, source

from mtmsa_lightning import MTMSA, Mixture
from mtmsa_lightning.training.callbacks.prediction_writer import PredictionWriter


class Watch(Callback):
    """Records the training faces; keeps the statistics of BatchNorm, which depend on the size of a batch."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, *_: Any) -> None:
        self.ids += batch["id"]
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()


def main() -> None:
    torch.set_num_threads(1)
    root, out, ranks = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    data = Mixture(
        [source(root, name) for name in SIZES], weights={"exact": 1.5, "races": 2}, caps={"groups": 9},
        image_size=64, batch_size=4 // ranks, num_workers=0,
    )  # fmt: skip
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=0.01)
    model = MTMSA(msa=None, image_size=64, race_classes=data.race_classes, optimizer=sgd).double()
    watch, writer = Watch(), PredictionWriter(out / "test.parquet")
    parallel = {"devices": ranks, "strategy": "ddp"} if ranks > 1 else {"devices": 1}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", precision="64-true", use_distributed_sampler=False,
        num_sanity_val_steps=0, callbacks=[watch, writer], default_root_dir=out, **quiet, **parallel,
    )  # fmt: skip
    trainer.fit(model, data)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if "val/" in name}
    (tested,) = trainer.test(model, data, verbose=False)
    rank, written = trainer.global_rank, {"ids": watch.ids, "metrics": metrics | tested}
    (out / f"rank{rank}.json").write_text(json.dumps(written))
    torch.save(model.state_dict(), out / f"rank{rank}.pt")

"""Two processes, of which one fails where the other cannot know: both end soon, with its message.

Each has its own copy of the data, as on machines with local disks.
"""

import shutil
import signal
import socket
from pathlib import Path

import pytest
import torch
from warm_process import WarmProcess

from mtmsa_lightning import MTMSA

pytestmark = pytest.mark.slow

FIT = """
import sys, time
from lightning.pytorch import Trainer
from mtmsa_lightning import MORPH, MTMSA
settings = {"max_epochs": 1, "accelerator": "cpu", "devices": 2, "strategy": "ddp", "logger": False}
quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary",
                       "use_distributed_sampler"), False)
data = MORPH(root=sys.argv[1], image_size=64, batch_size=4, num_workers=0, verify=sys.argv[3] == "verify")
weights = f"{sys.argv[1]}/weights.pth" if sys.argv[3] == "weights" else None
model = MTMSA(msa=None, image_size=64, race_classes=data.race_classes, weights=weights)
try:
    Trainer(num_sanity_val_steps=0, default_root_dir=sys.argv[1], **settings, **quiet).fit(model, data)
except Exception as error:
    print(f"error: {error}", file=sys.stderr, flush=True)
    if sys.argv[2] == "stays":  # so that its connections are not closed, and nothing wakes the other
        time.sleep(300)
    sys.exit(2)
"""


@pytest.mark.parametrize(
    ("fails_in", "rank", "message"),
    [
        ("training", 1, "could not be read, more than 1%"),
        ("weights", 1, "weights.pth"),
        ("verify", 0, "images cannot be read"),
    ],
)
def test_all_processes_end_when_one_fails(morph_root, tmp_path, fails_in, rank, message):
    roots = [Path(shutil.copytree(morph_root, tmp_path / name)) for name in ("zero", "one")]
    if fails_in == "weights":
        torch.save(MTMSA(msa=None).trunk.state_dict(), roots[1 - rank] / "weights.pth")
    else:
        for image in roots[rank].rglob("*.JPG"):
            image.write_bytes(b"")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    stays = ["stays" if number == rank else "ends" for number in (0, 1)]
    processes = [start(number, port, str(roots[number]), stays[number], fails_in) for number in (0, 1)]
    try:
        assert processes[1 - rank].wait() == 2
        assert f"error: process {rank} failed: " in processes[1 - rank].stderr
        assert message in processes[1 - rank].stderr
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


def start(rank: int, port: str, *args: str) -> WarmProcess:
    variables = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }  # fmt: skip
    return WarmProcess("-c", FIT, *args, environment=variables)

import pytest

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.studies.launch import Launch, device_groups, slots


def trainer(accelerator="auto", devices=1, nodes=1):
    return {"accelerator": accelerator, "devices": devices, "num_nodes": nodes}


@pytest.mark.parametrize(
    ("devices", "each", "groups"),
    [
        (["0", "1", "2", "3"], 1, ["0", "1", "2", "3"]),
        (["0", "1", "2", "3"], "2", ["0,1", "2,3"]),
        (["4", "7"], "auto", ["4", "7"]),
        (["0", "1"], [0, 1], []),
        (["0"], 1, []),
        ([], "auto", []),
    ],
)
def test_devices_are_dealt_out(devices, each, groups):
    assert device_groups(devices, each) == groups


def test_parallel_runs_share_cores_and_devices(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(12)), raising=False)
    assert slots([trainer(), trainer()], 1) == [{}]
    assert slots([trainer()], 3) == [
        {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": device} for device in ("2", "3", "2")
    ]
    assert slots([trainer("cpu")], 2) == [{"OMP_NUM_THREADS": "6"}] * 2
    with pytest.raises(ConfigError, match="--parallel: the variants differ"):
        slots([trainer(), trainer(devices=2)], 2)


@pytest.mark.parametrize(
    ("place", "of", "said"),
    [
        ("ray", trainer(nodes=2), "set trainer.num_nodes to 1"),
        ("slurm", trainer(devices=[0, 1]), "set trainer.devices to their number"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused(tmp_path, place, of, said):
    with pytest.raises(ConfigError, match=said):
        Launch(place).launcher([of], tmp_path)


@pytest.mark.parametrize(
    ("accelerator", "devices", "gpus"), [("auto", 1, 1), ("auto", "auto", 1), ("gpu", 4, 4), ("cpu", 2, 0)]
)
def test_runs_ask_for_the_gpus_that_they_use(tmp_path, accelerator, devices, gpus):
    pytest.importorskip("ray", reason="needs the extra ray")
    launcher = Launch("ray").launcher([trainer(accelerator, devices)], tmp_path)
    assert (launcher.gpus, launcher.cpus) == (gpus, 8 * max(1, gpus))

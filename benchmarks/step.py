"""Measure a training step: time by operation, effect of the settings on speed, memory and losses.

Parts, selected by ``--parts`` (default: all):

profile   time by kind of operation (torch.profiler), floating point operations and bytes read and
          written, for the plain ResNet34 and for MSA-ResNet34
msa       cost of the attention modules, by setting
settings  every setting alone and all together: time, memory, first step
memory    peak memory by batch size, and on a GPU the utilised fraction of its arithmetic
curves    losses of 200 steps by setting, compared with float32, on synthetic faces

Every round measures all variants in a rotating order; ratios are taken within a round. Times are processor
time of all threads on the CPU and wall-clock time on a GPU. Batches are fixed and on the device. Other load
on the machine affects caches and results: it is recorded.

    OMP_NUM_THREADS=1 python benchmarks/step.py --json step.json
    python benchmarks/step.py --device cuda --json step-gpu.json
"""

import argparse
import copy
import gc
import os
import platform
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from common import Row, processor, write
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from mtmsa_lightning.data.synthetic.drawing import draw_face
from mtmsa_lightning.data.synthetic.subjects import draw_subject
from mtmsa_lightning.models.backbones.msa import MSAConfig
from mtmsa_lightning.module import MTMSA
from mtmsa_lightning.training.callbacks.ema import move_towards, pair_up
from mtmsa_lightning.training.compilation import compile_network

PARTS = ("profile", "msa", "settings", "memory", "curves")

PEAK = {"H100": (989e12, 3.35e12), "H200": (989e12, 4.8e12), "A100": (312e12, 2.0e12)}
"""Dense bf16 operations and bytes of memory traffic per second, from the vendors' data sheets."""

KINDS = {
    "convolution": ("conv",),
    "batch norm": ("batch_norm",),
    "optimiser": ("adam", "foreach", "clip", "norm.", "linalg_vector_norm"),
    "pooling": ("pool", "mean"),
    "casts and copies": ("copy", "_to_copy", "clone", "contiguous"),
}
"""Kinds of operation by parts of their names; the first match counts, all others are element-wise."""


# ------------------------------------------------------------------ a step


class Setting(NamedTuple):
    """Settings of a step; the defaults are those of Lightning and torch."""

    bf16: bool = False
    channels_last: bool = False
    fused: bool = False
    compiled: bool = False
    checkpointed: bool = False
    ema: bool = False
    accumulate: int = 1
    tuned: bool = False


FAST = Setting(bf16=True, channels_last=True, fused=True)

SETTINGS = {
    "float32": Setting(),
    "bf16-mixed": Setting(bf16=True),
    "channels_last": Setting(channels_last=True),
    "fused optimiser": Setting(fused=True),
    "compiled": Setting(compiled=True),
    "activation checkpointing": Setting(checkpointed=True),
    "EMA": Setting(ema=True),
    "accumulation, 2 x half": Setting(accumulate=2),
    "bf16 + channels_last": Setting(bf16=True, channels_last=True),
    "bf16 + channels_last + fused": FAST,
    "the same, cudnn.benchmark": FAST._replace(tuned=True),
    "the same, compiled": FAST._replace(compiled=True),
    "the same + EMA + checkpointing": FAST._replace(compiled=True, ema=True, checkpointed=True),
}


class Training:
    """Steps of one network with one setting, with the configs' optimiser and gradient clipping."""

    def __init__(self, setting: Setting, device: torch.device, msa: bool = True, size: int = 224) -> None:
        torch.manual_seed(0)
        self.setting, self.device = setting, device
        self.model = MTMSA(
            msa=MSAConfig() if msa else None, image_size=size, race_classes=("a", "b", "c", "d"),
            channels_last=setting.channels_last, checkpoint_activations=setting.checkpointed,
        ).to(device)  # fmt: skip
        assert self.model.age is not None
        self.model.age.set_age_statistics(33, 11)
        if setting.compiled:
            compile_network(self.model)
        groups = self.model.parameter_groups()
        self.optimizer = torch.optim.AdamW(groups, 3e-4, weight_decay=0.05, fused=setting.fused or None)
        self.average = pair_up(copy.deepcopy(self.model), self.model) if setting.ema else None

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """Return the loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.setting.bf16):
            return self.model.total_loss(self.model.losses(self.model(batch["image"]), batch))  # type: ignore[arg-type]

    def step(self, batch: dict[str, Any]) -> Tensor:
        """Train on a batch."""
        torch.backends.cudnn.benchmark = self.setting.tuned
        loss = torch.zeros((), device=self.device)
        for part in parts_of(batch, self.setting.accumulate):
            part_loss = self.forward(part) / self.setting.accumulate
            part_loss.backward()
            loss = loss + part_loss.detach()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            move_towards(self.average, 0.001)
        return loss

    def seconds(self, batch: dict[str, Any], steps: int = 1) -> float:
        """Return the duration of steps: processor time on the CPU, wall-clock time on a GPU."""
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        synchronise(self.device)
        start = clock()
        for _ in range(steps):
            self.step(batch)
        synchronise(self.device)
        return (clock() - start) / steps


def parts_of(batch: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    chunks = {name: values.chunk(number) for name, values in batch.items()}
    for index in range(number):
        yield {name: values[index] for name, values in chunks.items()}


def batch_of(faces: int, size: int, device: torch.device) -> dict[str, Any]:
    """Return a batch of noise in the memory layout of the loader: channels last."""
    torch.manual_seed(1)
    images = torch.randint(0, 256, (faces, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    ages = torch.randint(16, 78, (faces,)).double()
    classes = torch.arange(faces)
    batch = {"image": images, "age_low": ages, "age_high": ages, "gender": classes % 2, "race": classes % 4}
    return {name: values.to(device) for name, values in batch.items()}


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def interleaved(
    trainings: dict[str, Training], batch: dict[str, Any], rounds: int, steps: int
) -> dict[str, list[float]]:
    """Return the seconds of a step in every round, in a rotating order."""
    names = list(trainings)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(trainings[name].seconds(batch, steps))
    return times


def ratio(times: list[float], base: list[float]) -> dict[str, float]:
    """Return median and extremes of the ratio of two times within a round."""
    ratios = [one / other for one, other in zip(times, base, strict=True)]
    return {"ratio": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


# ------------------------------------------------------------------ profile


def kind_of(name: str) -> str:
    return next(
        (kind for kind, words in KINDS.items() if any(word in name for word in words)), "element-wise"
    )


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write, by kind; views count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        read = {id(t): t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        written = {id(t): t for t in tree_leaves(out) if isinstance(t, Tensor)}
        storages = {tensor.untyped_storage().data_ptr() for tensor in read.values()}
        in_place = func._schema.is_mutable
        fresh = [t for t in written.values() if t.untyped_storage().data_ptr() not in storages]
        if fresh or in_place:
            moved = [*read.values(), *(written.values() if in_place else fresh)]
            kind = kind_of(str(func))
            self.bytes[kind] += sum(tensor.numel() * tensor.element_size() for tensor in moved)
            self.calls[kind] += 1
        return out


def profiled(training: Training, batch: dict[str, Any], steps: int) -> dict[str, dict[str, float]]:
    """Return by kind of operation: milliseconds, gigabytes and number of operations of a step."""
    cuda = training.device.type == "cuda"
    training.step(batch), training.step(batch)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as record:
        for _ in range(steps):
            training.step(batch)
        synchronise(training.device)
    rows: dict[str, dict[str, float]] = defaultdict(lambda: {"ms": 0.0, "gigabytes": 0.0, "operations": 0})
    for event in record.key_averages():
        spent = event.self_device_time_total if cuda else event.self_cpu_time_total
        if event.key.startswith(("aten::", "autograd::", "torch")) or not cuda:
            rows[kind_of(event.key)]["ms"] += spent / 1000 / steps
    with Traffic() as traffic:
        training.step(batch)
    for kind, count in traffic.bytes.items():
        rows[kind] |= {"gigabytes": count / 1e9, "operations": traffic.calls[kind]}
    return {kind: rows[kind] for kind in sorted(rows, key=lambda kind: -rows[kind]["ms"])}


def operations(training: Training, batch: dict[str, Any]) -> float:
    """Return the floating point operations of a step; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        training.forward(batch).backward()
    training.optimizer.zero_grad()
    return float(counter.get_total_flops())


def profile_part(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    batch = batch_of(options.batch_size, options.size, device)
    record: dict[str, Any] = {}
    for label, setting in (("float32", Setting()), ("fast", FAST)):
        for network, msa in (("plain", False), ("msa", True)):
            training = Training(setting, device, msa, options.size)
            kinds = profiled(training, batch, options.steps)
            record[f"{label}, {network}"] = {"kinds": kinds, "operations": operations(training, batch)}
        record[f"{label}, bound"] = bound(record[f"{label}, plain"], record[f"{label}, msa"])
    return record


def bound(plain: dict[str, Any], msa: dict[str, Any]) -> dict[str, float]:
    """Return the ratio of two steps on each GPU if every kind took the least time that the GPU allows."""

    def least(step: dict[str, Any], speed: float, bandwidth: float) -> float:
        moved = sum(row["gigabytes"] * 1e9 for kind, row in step["kinds"].items() if kind != "convolution")
        convolution = step["kinds"]["convolution"]["gigabytes"] * 1e9
        return max(step["operations"] / speed, convolution / bandwidth) + moved / bandwidth

    return {gpu: least(msa, *peak) / least(plain, *peak) for gpu, peak in PEAK.items()}


# ------------------------------------------------------------------ settings


def msa_part(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    batch = batch_of(options.batch_size, options.size, device)
    chosen = {"float32": Setting(), "bf16-mixed": Setting(bf16=True), "fast": FAST}
    if not options.no_compile:
        chosen["fast, compiled"] = FAST._replace(compiled=True)
    record = {}
    for name, setting in chosen.items():
        pair = {key: Training(setting, device, key == "msa", options.size) for key in ("plain", "msa")}
        for training in pair.values():
            training.step(batch), training.step(batch)
        times = interleaved(pair, batch, options.rounds, options.steps)
        medians = {f"{key}_seconds": statistics.median(values) for key, values in times.items()}
        record[name] = medians | ratio(times["msa"], times["plain"])
        del pair
        gc.collect()
    return record


def settings_part(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Compare each setting with float32, with two networks in memory at a time."""
    batch = batch_of(options.batch_size, options.size, device)
    base = Training(Setting(), device, size=options.size)
    base.step(batch), base.step(batch)
    record = {}
    for name in options.settings:
        setting = SETTINGS[name]
        if (setting.compiled and options.no_compile) or (setting.tuned and device.type == "cpu"):
            continue
        training = Training(setting, device, size=options.size)
        start = time.perf_counter()
        training.step(batch)
        synchronise(device)
        first = time.perf_counter() - start
        training.step(batch)
        times = interleaved({"base": base, "this": training}, batch, options.rounds, options.steps)
        record[name] = {
            "seconds": statistics.median(times["this"]),
            "first_step_seconds": first,
            "activation_megabytes": kept_bytes(training, batch) / 1e6,
        } | ratio(times["this"], times["base"])
        print(f"  {name:32} {record[name]['ratio']:.3f}", flush=True)
        del training
        gc.collect()
    return record


def kept_bytes(training: Training, batch: dict[str, Any]) -> float:
    """Return the bytes that the forward pass keeps for the backward pass, without weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in training.model.parameters()}
    seen: dict[int, tuple[Any, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = (storage, storage.nbytes())  # kept, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = training.forward(next(parts_of(batch, training.setting.accumulate)))
    del loss
    return float(sum(size for _, size in seen.values()))


def memory_part(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Measure peak memory and speed by batch size; on the CPU, count the bytes kept for the backward pass."""
    record: dict[str, Any] = {}
    for name, setting in (
        ("float32", Setting()),
        ("fast", FAST),
        ("fast, checkpointed", FAST._replace(checkpointed=True)),
    ):
        for faces in options.batch_sizes:
            batch = batch_of(faces, options.size, device)
            training = Training(setting, device, size=options.size)
            row: dict[str, float] = {}
            if device.type == "cuda":
                training.step(batch), training.step(batch)
                torch.cuda.reset_peak_memory_stats()
                seconds = statistics.median(
                    training.seconds(batch, options.steps) for _ in range(options.rounds)
                )
                row = {
                    "peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9,
                    "faces_per_s": faces / seconds,
                }
                peak = peak_of(device)
                if peak is not None and setting.bf16 and not setting.checkpointed:
                    row["arithmetic_used"] = operations(training, batch) / seconds / peak[0]
            else:
                row = {"activation_megabytes": kept_bytes(training, batch) / 1e6}
            record.setdefault(name, {})[str(faces)] = row
            del training
            gc.collect()
    return record


def peak_of(device: torch.device) -> tuple[float, float] | None:
    name = torch.cuda.get_device_name(device)
    return next((peak for gpu, peak in PEAK.items() if gpu in name), None)


# ------------------------------------------------------------------ loss curves

CURVES = {
    "float32": Setting(),
    "float32, weights moved": Setting(),
    "channels_last": Setting(channels_last=True),
    "fused optimiser": Setting(fused=True),
    "bf16-mixed": Setting(bf16=True),
    "bf16 + channels_last + fused": FAST,
    "the same, cudnn.benchmark": FAST._replace(tuned=True),
    "the same, compiled": FAST._replace(compiled=True),
}
"""The second shows the effect of a change in the seventh digit, a lower bound for all settings."""


def made_up_faces(number: int, size: int) -> dict[str, Tensor]:
    """Draw faces that depend on age, gender and race."""
    rng = np.random.default_rng(0)
    races = ("white", "black", "asian", "indian")
    images, ages, genders, origins = [], [], [], []
    for index in range(number):
        gender, race = int(rng.integers(2)), int(rng.integers(4))
        subject = draw_subject(rng, ("male", "female")[gender], races[race])
        age = int(rng.integers(16, 78))
        images.append(torch.from_numpy(draw_face(subject, age, index, size)))
        ages.append(float(age))
        genders.append(gender)
        origins.append(race)
    labels = torch.tensor(ages, dtype=torch.float64)
    return {
        "image": torch.stack(images).permute(0, 3, 1, 2), "age_low": labels, "age_high": labels,
        "gender": torch.tensor(genders), "race": torch.tensor(origins),
    }  # fmt: skip


def curve(training: Training, faces: dict[str, Tensor], steps: int, batch_size: int) -> list[float]:
    """Return the loss of every step; all settings get the same batches."""
    generator = torch.Generator().manual_seed(2)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(faces["image"]), (batch_size,), generator=generator)
        batch = {name: values[rows].to(training.device) for name, values in faces.items()}
        losses.append(training.step(batch).item())
    return losses


def curves_part(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    faces = made_up_faces(options.curve_faces, options.curve_size)
    record: dict[str, Any] = {}
    for name, setting in CURVES.items():
        if setting.compiled and options.no_compile:
            continue
        training = Training(setting, device, size=options.curve_size)
        if name.endswith("moved"):
            with torch.no_grad():
                for parameter in training.model.parameters():
                    parameter.mul_(1 + 1e-7 * torch.randn_like(parameter))
        record[name] = {"losses": curve(training, faces, options.curve_steps, options.curve_batch_size)}
        record[name] |= compared(record[name]["losses"], record["float32"]["losses"])
        print(f"  {name:32} {record[name]['last_quarter']:.4f}", flush=True)
        del training
        gc.collect()
    return record


def compared(losses: list[float], base: list[float]) -> dict[str, float]:
    """Return the mean loss of the first and last quarter, and the mean distance from another curve."""
    quarter = max(1, len(losses) // 4)
    gaps = [abs(one - other) for one, other in zip(losses, base, strict=True)]
    return {
        "first_quarter": statistics.mean(losses[:quarter]),
        "last_quarter": statistics.mean(losses[-quarter:]),
        "gap_first_quarter": statistics.mean(gaps[:quarter]),
        "gap_last_quarter": statistics.mean(gaps[-quarter:]),
        "finite": float(np.isfinite(losses).all()),
    }


# ------------------------------------------------------------------ report


def setting_of(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    step = f"{options.batch_size} faces of {options.size} px"
    curve_faces = f"{options.curve_batch_size} faces of {options.curve_size} px"
    return {
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "the same processor",
        "threads": torch.get_num_threads(),
        "load": f"{os.getloadavg()[0]:.1f} before the run",
        "step": f"{step}, {options.rounds} rounds of {options.steps} steps",
        "curves": f"{options.curve_steps} steps of {curve_faces}",
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, torchvision {torchvision.__version__}",
    }


def rows_of(record: dict[str, Any]) -> list[Row]:
    """Return the rows of all parts but profile and curves."""
    details = record["setting"]
    setting = f"{details['step']}, {details['device']}, {details['threads']} threads"
    rows = []
    for part, what, base in (("msa", "attention", "plain ResNet34"), ("settings", "setting", "float32")):
        for name, each in record.get(part, {}).items():
            spread = each["min"], each["max"]
            rows.append(
                Row(f"step/{what}, {name}, ratio", each["ratio"], f"x {base}", "less", setting, *spread)
            )
            seconds = each.get("msa_seconds", each.get("seconds"))
            rows.append(Row(f"step/{what}, {name}", 1e3 * seconds, "ms", "less", setting))
    for name, by_faces in record.get("memory", {}).items():
        for faces, each in by_faces.items():
            key = "peak_gigabytes" if "peak_gigabytes" in each else "activation_megabytes"
            label, unit = key.split("_")[0], {"gigabytes": "GB", "megabytes": "MB"}[key.split("_")[1]]
            rows.append(
                Row(f"step/memory ({label}), {name}, {faces} faces", each[key], unit, "less", setting)
            )
    return rows


def parse(args: Sequence[str] | None) -> argparse.Namespace:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Measure a training step.")
    parser.add_argument("--device", default="cuda" if cuda else "cpu", help="cpu or cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--size", type=int, default=224, help="side of a face in pixels")
    parser.add_argument("--batch_size", type=int, default=64 if cuda else 8, help="faces per step")
    parser.add_argument("--rounds", type=int, default=9 if cuda else 5, help="timed rounds")
    parser.add_argument("--steps", type=int, default=10 if cuda else 1, help="steps per timing")
    sizes = [32, 64, 128, 256, 512] if cuda else [1, 8, 32]
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=sizes, help="for the part memory")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="which ones")
    parser.add_argument("--no_compile", action="store_true", help="skip the compiled rows")
    parser.add_argument("--curve_steps", type=int, default=200, help="steps of a loss curve")
    parser.add_argument("--curve_size", type=int, default=224 if cuda else 64, help="side of its faces")
    parser.add_argument(
        "--curve_faces", type=int, default=1024 if cuda else 256, help="faces that it learns from"
    )
    parser.add_argument("--curve_batch_size", type=int, default=64 if cuda else 16, help="faces per step")
    parser.add_argument("--json", type=Path, help="also write setting and measurements to this file")
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse(args)
    load = os.getloadavg()[0]
    device = torch.device(options.device)
    record: dict[str, Any] = {"setting": setting_of(options, device)}
    for key, value in record["setting"].items():
        print(f"{key:10} {value}")
    measure: dict[str, tuple[Callable[..., Any], Callable[[Any], None]]] = {
        "profile": (profile_part, show_profile), "msa": (msa_part, show_rows),
        "settings": (settings_part, show_rows), "memory": (memory_part, show_memory),
        "curves": (curves_part, show_curves),
    }  # fmt: skip
    for part in options.parts:
        run, show = measure[part]
        print(f"\n{part}", flush=True)
        record[part] = run(options, device)
        show(copy.deepcopy(record[part]))
        if options.json:
            write(options.json, rows_of(record), load, record)


def show_profile(record: dict[str, Any]) -> None:
    columns = {"ms": ".1f", "gigabytes": ".2f", "operations": ".0f"}
    for label in ("float32", "fast"):
        plain, msa = record[f"{label}, plain"], record[f"{label}, msa"]
        print(f"\n{label:17}" + "".join(f"{name:>12} plain    msa" for name in columns))
        nothing = dict.fromkeys(columns, 0.0)
        for kind in msa["kinds"] | plain["kinds"]:
            one, other = plain["kinds"].get(kind, nothing), msa["kinds"].get(kind, nothing)
            cells = (f"{one[key]:18{form}} {other[key]:6{form}}" for key, form in columns.items())
            print(f"{kind:17}" + "".join(cells))
        more = msa["operations"] / plain["operations"]
        print(f"floating point operations: {plain['operations']:.4g}, with attention x {more:.3f}")
        least = (f"{gpu} {value:.3f}" for gpu, value in record[f"{label}, bound"].items())
        print("ratio of the lower bounds of the times:", ", ".join(least))


def show_rows(record: dict[str, Any]) -> None:
    for name, row in record.items():
        print(f"{name:32} " + "  ".join(f"{key} {value:.4g}" for key, value in row.items()))


def show_memory(record: dict[str, Any]) -> None:
    for name, rows in record.items():
        show_rows({f"{name}, {faces} faces": row for faces, row in rows.items()})


def show_curves(record: dict[str, Any]) -> None:
    for row in record.values():
        row.pop("losses")
    show_rows(record)


if __name__ == "__main__":
    main()

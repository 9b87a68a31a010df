"""Networks that export in a second: the real heads on a backbone of one convolution."""

from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from untrained_networks import TinyTrunk

import mtmsa_lightning
from mtmsa_lightning import MTMSA
from mtmsa_lightning.calibration.calibration import Calibration
from mtmsa_lightning.calibration.policy import AgePolicy
from mtmsa_lightning.labels import AGE_GROUPS

SIZE = 64

CALIBRATION = Calibration(
    sigma_scale=1.3,
    temperatures={"gender": 0.7, "race": 1.6},
    quantiles={0.5: 0.6, 0.8: 1.1, 0.9: 1.9, 0.95: float("inf")},
    max_width=40.0,
    fitted_on={
        "dataset": "utkface", "protocol": "random", "fold": 0, "split_seed": 0, "part": "calibration",
        "fingerprint": "00", "faces": 90, "subjects": 80, "unit": "different images",
        "chose_checkpoint": False,
    },
    metrics={"test": {"before": {"age_nll": 4.0}, "after": {"age_nll": 3.5}}},
    policies=(AgePolicy(30, by="probability", no_below=0.4, yes_from=0.6),),
)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _operators_read_once() -> Iterator[None]:
    """Read the sources of all ONNX operators once: the exporter does it for every file, in a second."""
    from torch.onnx._internal.exporter import _registration

    operators = _registration.onnxscript_apis
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "get_torchlib_ops", cache(operators.get_torchlib_ops))
        yield


@pytest.fixture(scope="session")
def network_of() -> Callable[..., MTMSA]:
    """Return a network with the named age head, or None for no age head."""

    def build(head: str | None, calibrated: bool = False, groups: bool = False, **settings) -> MTMSA:
        torch.manual_seed(0)
        age = None if head is None else getattr(mtmsa_lightning, head)
        races = ("white", "black", "asian")
        model = MTMSA(age=age, race_classes=races, image_size=SIZE, **settings)
        model.age_groups = AGE_GROUPS if groups else ()
        model.trunk = TinyTrunk()
        if model.age is not None:
            model.age.set_age_statistics(32.6, 11.0)
        for name in model.tasks:
            nn.init.normal_(getattr(model, name).linear.weight, std=0.1)
        model.calibration = CALIBRATION if calibrated else None
        return model.eval()

    return build


@pytest.fixture(scope="session")
def faces() -> Tensor:
    """Return images of noise of different brightness, including a black and a white one."""
    generator = torch.Generator().manual_seed(1)
    tops = torch.linspace(1, 256, 14).round().long()
    noise = torch.stack([torch.randint(0, int(top), (3, SIZE, SIZE), generator=generator) for top in tops])
    return torch.cat([noise, torch.full((1, 3, SIZE, SIZE), 255)]).to(torch.uint8)

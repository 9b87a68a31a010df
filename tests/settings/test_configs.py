import json

import pytest

from mtmsa_lightning.errors import ConfigError
from mtmsa_lightning.settings.configs import by_precedence, find_config

HPARAMS = {"last_stride": 1, "race": None, "optimizer": None, "scheduler": None, "image_size": 64}


@pytest.mark.parametrize("training", [True, False])
def test_a_checkpoint_gives_way_to_configs_in_training_and_beats_them_in_evaluation(tmp_path, training):
    config = tmp_path / "a.yaml"
    config.write_text("model: {last_stride: 2}\n")
    args = ["--data.fold", "1", "--config", str(config)]
    *configs, flag, value = by_precedence(args, HPARAMS, training)
    recorded = f"--config={json.dumps({'model': {'last_stride': 1, 'race': None}})}"
    assert configs == ([recorded, f"--config={config}"] if training else [f"--config={config}", recorded])
    assert (flag, value) == ("--data.fold", "1")


@pytest.mark.parametrize(
    ("name", "said"), [("mroph.yaml", r"did you mean morph.yaml\?"), ("x", r"shipped are .*adience.yaml")]
)
def test_a_config_that_is_not_there_is_told_with_the_nearest_name(name, said):
    with pytest.raises(ConfigError, match=said):
        find_config(name)


def test_classes_are_allowed_on_the_command_line_only(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("allow_classes: mylab\n")
    with pytest.raises(ConfigError, match=rf"{file}: allow_classes is given .* add --allow_classes mylab"):
        find_config(str(file))

import math

import pandas as pd

from mtmsa_lightning.training.callbacks.epoch_csv import EpochCSV


def test_training_and_validation_of_an_epoch_share_a_row(tmp_path):
    logger = EpochCSV(tmp_path / "metrics.csv")
    for epoch in (0, 1):
        logger.log_metrics({"val/age_mae": 9.0 - epoch, "epoch": epoch}, step=4)
        logger.log_metrics({"train/loss": 0.5, "epoch": epoch}, step=5)
        logger.save()
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table.columns.tolist() == ["epoch", "step", "train/loss", "val/age_mae"]
    assert table["val/age_mae"].tolist() == [9.0, 8.0]


def test_what_is_not_finite_is_read_back_by_pandas(tmp_path):
    logger = EpochCSV(tmp_path / "metrics.csv")
    for epoch, loss in enumerate((1.0, math.nan, math.inf)):
        logger.log_metrics({"train/loss": loss, "epoch": epoch}, step=epoch)
    logger.save()
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == ["0,0,1.0", "1,1,nan", "2,2,inf"]
    assert pd.read_csv(tmp_path / "metrics.csv")["train/loss"].tolist()[::2] == [1.0, math.inf]


def test_a_continued_run_keeps_its_rows_and_redoes_the_broken_epoch(tmp_path):
    file = tmp_path / "metrics.csv"
    first = EpochCSV(file)
    for epoch in range(3):
        first.log_metrics({"train/loss": float(epoch), "epoch": epoch}, step=epoch)
    first.save()
    second = EpochCSV(file)
    second.log_metrics({"train/loss": 7.0, "epoch": 1}, step=1)
    second.finalize("success")
    assert pd.read_csv(file)["train/loss"].tolist() == [0.0, 7.0]


def test_test_metrics_and_metrics_without_an_epoch_make_no_row(tmp_path):
    logger = EpochCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"test/age_mae": 3.0, "epoch": 2})
    logger.log_metrics({"speed": 3.0})
    logger.save()
    assert not (tmp_path / "metrics.csv").exists()


def test_names_with_commas_do_not_break_the_file(tmp_path):
    logger = EpochCSV(tmp_path / "metrics.csv")
    logger.log_metrics({'lr-AdamW,"resnet"': 0.1, "epoch": 0}, step=0)
    logger.save()
    assert pd.read_csv(tmp_path / "metrics.csv")['lr-AdamW,"resnet"'].tolist() == [0.1]

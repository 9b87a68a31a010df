import pandas as pd

from mtmsa_lightning.cli.main import main
from mtmsa_lightning.training.callbacks import prediction_writer as predictions


def test_the_table_is_the_same_however_many_batches_are_fetched_at_once(trained, tmp_path, monkeypatch):
    """15 faces in batches of 4: three fetches, or one."""
    tables = []
    for at_once in (predictions._AT_ONCE, 2, 1):
        monkeypatch.setattr(predictions, "_AT_ONCE", at_once)
        run = tmp_path / str(at_once)
        main(["test", "--ckpt_path", str(trained), "--data.batch_size", "4", f"--run_dir={run}"])
        tables.append(pd.read_parquet(run / "predictions" / "test.parquet"))
    assert len(tables[0]) == 15
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])

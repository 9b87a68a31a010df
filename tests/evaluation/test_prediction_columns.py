import numpy as np
import torch

from mtmsa_lightning.evaluation.prediction_columns import to_arrays


def test_columns_of_batches_are_joined_with_their_kinds():
    def batch(first, n):
        row = torch.arange(first, first + n)
        return {"row": row, "odd": row % 2 == 1, "age": row.double() / 3, "p": row.float() / 8}

    found = to_arrays([batch(0, 4), batch(4, 1), batch(5, 2)])
    assert [values.dtype for values in found.values()] == [np.int64, np.bool_, np.float64, np.float64]
    assert found["row"].tolist() == list(range(7))
    assert found["odd"].tolist() == [False, True, False, True, False, True, False]
    assert found["age"].tolist() == [row / 3 for row in range(7)]
    assert found["p"].tolist() == [row / 8 for row in range(7)]

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mtmsa_lightning.losses.distillation import soft_label_loss
from mtmsa_lightning.losses.weighting import TaskWeighting, joined_loss


@given(st.integers(1, 5), st.integers(2, 7), st.integers(0, 1000))
def test_divergence_is_that_of_torch(faces, classes, seed):
    torch.manual_seed(seed)
    predicted = torch.randn(faces, classes, dtype=torch.float64).log_softmax(1)
    target = torch.randn(faces, classes, dtype=torch.float64).softmax(1)
    total, count = soft_label_loss(predicted, target)
    torch.testing.assert_close(total, F.kl_div(predicted, target, reduction="sum"))
    assert count == faces
    assert soft_label_loss(target.log(), target)[0].abs() < 1e-12


def test_impossible_classes_stay_finite_with_gradients():
    logits = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    target = torch.tensor([[0.2, 0.0, 0.8]])
    total, _ = soft_label_loss(logits.log_softmax(1), target)
    total.backward()
    assert total.isfinite()
    assert logits.grad[:, :2].isfinite().all()


def test_soft_losses_have_their_part_of_the_weight_of_their_task():
    losses = {"age": (torch.tensor(6.0), torch.tensor(3)), "gender": (torch.tensor(4.0), torch.tensor(2))}
    soft = {"age": (torch.tensor(20.0), torch.tensor(4))}
    weighting = TaskWeighting({"age": 1.0, "gender": 0.5})
    total = joined_loss(losses, weighting, soft, 0.25)
    assert total == 0.75 * 2 + 0.25 * 5 + 0.5 * 2
    unlabelled = {"age": (torch.tensor(0.0), torch.tensor(0)), "gender": (torch.tensor(0.0), torch.tensor(0))}
    assert joined_loss(unlabelled, weighting, soft, 0.25) == 0.25 * 5, "faces without labels are taught, too"

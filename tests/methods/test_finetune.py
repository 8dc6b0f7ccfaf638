"""FT looks at nothing but the new labels."""

import pytest
import torch

from methods.finetune import FT
from methods.losses import cross_entropy
from segmentation_module import SegOutput
from tests.helpers import task_of


@pytest.mark.parametrize("step", [0, 1])
def test_the_loss_is_plain_cross_entropy(step: int):
    task = task_of("voc", "15-1")
    classes = task.num_seen(step)
    torch.manual_seed(0)
    logits, labels = torch.randn(2, classes, 5, 4), torch.randint(classes, (2, 5, 4))
    labels[0, :2] = 255
    method = FT(FT.Config(), task, step)
    losses = method.losses(SegOutput(logits, {}), None, labels)
    assert losses.keys() == {"ce"} and torch.equal(losses["ce"], cross_entropy(logits, labels))


def test_it_needs_no_teacher_and_one_branch():
    method = FT(FT.Config(), task_of("voc", "15-1"), 1)
    assert not method.needs_teacher and method.config.branches == 1
    assert FT(FT.Config(pod="cube"), task_of("voc", "15-1"), 1).needs_teacher

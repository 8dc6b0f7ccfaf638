"""FT, fine-tuning: plain cross entropy and nothing against forgetting. The naive bound, and the file to copy."""

from typing import Any

from torch import Tensor

from methods.base import Method
from methods.losses import cross_entropy
from segmentation_module import SegOutput
from tasks import Task

SCHEDULES: dict[str, dict[str, Any]] = {
    "voc": {"lr": (0.01, 0.001), "epochs": (30,)},
    "ade": {"lr": (0.01, 0.001), "epochs": (60,)},
    "cityscapes_domain": {"lr": (0.01, 0.001), "epochs": (50,)},
    "cityscape": {"lr": (0.01, 0.001), "epochs": (50,)},
}
"""Those of all baselines (METHODS 0.4). On VOC 10-1 the later steps had 10 epochs."""
TASK_SCHEDULES: dict[tuple[str, str], dict[str, Any]] = {("voc", "10-1"): {"epochs": (30, 10)}}


class FT(Method):
    """Cross entropy on the new labels; whatever is not labelled is background. Base of most other methods."""

    @classmethod
    def preset(cls, dataset: str, task: Task) -> dict[str, Any]:
        """SPEC 7, METHODS 0.4."""
        return SCHEDULES.get(dataset, {}) | TASK_SCHEDULES.get((dataset, task.name), {})

    def own_losses(self, student: SegOutput, teacher: SegOutput | None, labels: Tensor) -> dict[str, Tensor]:
        """{"ce"}: see Method.losses."""
        return {"ce": cross_entropy(student.logits, labels)}

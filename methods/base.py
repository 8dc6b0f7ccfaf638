"""What a method is: a configuration, what it does to the student before training, and its losses."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from config import Checked, option
from segmentation_module import SegmentationNet, SegOutput
from tasks import Task


@dataclass(frozen=True, kw_only=True)
class MethodConfig(Checked):
    """Options that every method has; a method adds its own and its own defaults in a subclass."""

    branches: int = option(1, "branches per convolution: 1 plain DeepLabV3, 2 the RC network", choices=(1, 2))
    init_balanced: bool = option(False, "start new classifiers from the background's weights")
    init_bias: bool = option(False, "with it set the biases too, to the background's minus ln(new classes + 1)")


class Method:
    """Base of all methods. One object serves one step.

    A subclass names its `Config`, gives `preset()` and computes `losses()`; methods/__init__.py lists it.
    """

    Config = MethodConfig
    needs_teacher = False
    """Whether `losses` reads the teacher's output at steps >= 1."""

    def __init__(self, config: MethodConfig, task: Task, step: int) -> None:
        self.config = config
        self.step = step
        self.num_old = task.num_old(step)
        self.num_seen = task.num_seen(step)
        self.new_classes_arrive = task.kind == "class"

    @classmethod
    def preset(cls, dataset: str, task: Task) -> dict[str, Any]:
        """Values that the published runs used, by option name: of this method's options and of the optimiser's."""
        raise NotImplementedError

    def prepare(self, student: SegmentationNet) -> None:
        """Change the student once, after its weights are loaded and before the optimiser is made (SPEC 4)."""
        if self.step > 0 and self.config.branches == 2:
            student.freeze_merged_()

    def losses(self, student: SegOutput, teacher: SegOutput | None, labels: Tensor) -> dict[str, Tensor]:
        """Terms of the objective by name, 0-d, weighted; their sum is minimised.

        `student.logits` (B, num_seen, H, W), `teacher.logits` (B, num_old, H, W) or None at step 0 and for methods
        that need no teacher, `labels` (B, H, W) int64 in [0, num_seen) or 255 = ignored.
        """
        raise NotImplementedError

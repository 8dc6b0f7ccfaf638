"""What a method is: a configuration, what it does to the student before training, its losses, and what it remembers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from config import option
from methods.features import FeatureConfig, feature_losses
from segmentation_module import SegmentationNet, SegOutput
from tasks import Task

State = dict[str, Any]
"""Tensors and plain values that a checkpoint keeps."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig(FeatureConfig):
    """Options that every method has; a method adds its own and its own defaults in a subclass."""

    branches: int = option(1, "branches per convolution: 1 plain DeepLabV3, 2 the RC network", choices=(1, 2))
    init_balanced: bool = option(False, "start new classifiers from the background's weights")
    init_bias: bool = option(False, "with it set the biases too, to the background's minus ln(new classes + 1)")
    paper_exact: bool = option(False, "mend what the public code does otherwise than its paper, see docs/METHODS.md")

    @property
    def sets_bias(self) -> bool:
        """Whether the biases of new classifiers start from the background's."""
        return self.init_balanced and (self.init_bias or self.paper_exact)


class Method:
    """Base of all methods. One object serves one step.

    A subclass names its `Config`, gives `preset()` and computes `own_losses()`; methods/__init__.py lists it. All else
    is for methods that need more than the outputs of both networks. The order of calls in a step: `prepare`, `begin`,
    `load` if the step was cut off, `scan` if it was not and the method `scans`, then for each batch `losses` and, once
    the gradients are there, `after_backward`.
    """

    Config = MethodConfig
    teaches = False
    """Whether `own_losses` reads the teacher's output at steps >= 1."""
    first_loss = "cross entropy"
    """What step 0 trains on: methods with the same words here share its network."""
    carries: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Entries of the state that the next step needs, each with the options that shape it."""
    scans = False
    """Whether the method has to see the training images of a step >= 1 before it trains."""
    reads_gradients = False
    """Whether `after_backward` is to be called."""

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

    @property
    def needs_teacher(self) -> bool:
        """Whether `losses` reads the teacher's output at steps >= 1."""
        return self.teaches or self.config.pod != "none"

    def prepare(self, student: SegmentationNet) -> None:
        """Change the student once, after its weights are loaded and before the optimiser is made (SPEC 4)."""
        if self.step > 0 and self.config.branches == 2:
            student.freeze_merged_()

    def begin(self, student: SegmentationNet, previous: SegmentationNet | None, carried: State) -> None:
        """Look at the student, on its device and ready to train, and at the network of the step before.

        `carried`: the state that this method left in the checkpoint of the step before, empty if it left none.
        UserError where the method cannot do without.
        """

    def scan(self, teacher: SegmentationNet, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """See the training batches of the step, images (B,3,H,W) normalised and labels (B,H,W), on the device."""
        raise NotImplementedError

    def losses(self, student: SegOutput, teacher: SegOutput | None, labels: Tensor) -> dict[str, Tensor]:
        """Terms of the objective by name, 0-d, weighted; their sum is minimised.

        `student.logits` (B, num_seen, H, W), `teacher.logits` (B, num_old, H, W) or None at step 0 and for methods
        that need no teacher, `labels` (B, H, W) int64 in [0, num_seen) or 255 = ignored.
        """
        terms = self.own_losses(student, teacher, labels)
        if teacher is not None:
            counts = {"num_old": self.num_old, "num_seen": self.num_seen}
            terms |= feature_losses(self.config, student, teacher, **counts)
        return terms

    def own_losses(self, student: SegOutput, teacher: SegOutput | None, labels: Tensor) -> dict[str, Tensor]:
        """The terms of `losses` without the distillation of features, which any method may add (`--pod`)."""
        raise NotImplementedError

    def after_backward(self, *, may_overflow: bool) -> dict[str, Tensor]:
        """Read the gradients of `losses`, averaged over processes, and add those of penalties on the weights.

        Returns the penalties by name, 0-d, for the log. `may_overflow`: losses are scaled, so that a gradient may be
        infinite or NaN, in an iteration that the optimiser then leaves out.
        """
        raise NotImplementedError

    def state(self, *, finished: bool) -> State:
        """What the checkpoint of the step keeps: for the next step and, unless `finished`, for going on."""
        return {}

    def load(self, state: State) -> None:
        """Go on from what `state(finished=False)` gave."""

"""ST: Self-Training for Class-Incremental Semantic Segmentation (Yu et al., TNNLS 2022, arXiv 2012.03362).

No public code was found, and of the paper only the abstract could be read. It fixes: a temporary model of the current
task; pseudo labels of unlabelled images, fused from the old and the temporary model; conflicts between the two are
resolved; the entropy of the own predictions is made large. All else is our reading                      (METHODS2 22)

A step >= 1 has two phases, each with all epochs and a schedule of its own [design]:

    temporary   L = L_ce, as FT [memory]. The network at its end is the temporary model.
    final       L = L_ce - st_entropy mean_pixels H(softmax(student)),  H = -sum_c p_c log p_c
                The student trains on from the temporary model [design]. A batch holds as many images without labels as
                labelled ones (`--aux_root`); both terms are means over all their pixels.

Labels of the final phase, from the old model (the teacher) and the temporary one, both in evaluation:

    c_old, p_old   class and probability of the old model: argmax and max of its softmax
    c_new, p_new   the same of the temporary model, its softmax over the background and the new classes alone [design]
    image without labels   background where both say so; where one of them says a class, that class; where both do, a
                           conflict, that of the larger probability, of the old model where they are equal [memory]
    labelled image         where it is labelled background, c_old [design]

`st_conflict ignore` leaves out a conflict in which the probabilities differ by less than 0.1 [design]. The weight of
the entropy could not be found [design]. Labels are found on the augmented images, and not kept on the disk [design].
Step 0: plain cross entropy. Between steps: as FT; nothing is kept but the network.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from config import option
from methods.base import Batch, Method, MethodConfig
from methods.losses import cross_entropy, entropy
from methods.pooled_cube import at_least_float32
from segmentation_module import SegmentationNet, SegOutput
from tasks import Step
from utils.constants import IGNORE_INDEX

MARGIN = 0.1
"""Of a conflict, with `st_conflict ignore`: how far apart the probabilities are at least."""


@dataclass(frozen=True, kw_only=True)
class STConfig(MethodConfig):
    """Weight of the entropy, and what a conflict of the two models means."""

    st_entropy: float = option(0.1, "weight of the entropy, which is made large; 0 leaves it out")
    st_conflict: str = option(
        "larger",
        "a pixel in which old and temporary model see different classes: larger takes the more probable one; ignore "
        "leaves it out where the probabilities are nearly equal",
        choices=("larger", "ignore"),
    )


class ST(Method):
    """Fine-tuning, and then training on images that the fine-tuned and the old network have labelled."""

    Config = STConfig
    serves = ("classes",)
    reason = "it asks which of two networks sees background, and there is none"
    phases = ("temporary", "final")
    auxiliary: ClassVar = ("final",)

    def __init__(self, config: STConfig, step: Step) -> None:
        super().__init__(config, step)
        self.temporary: SegmentationNet | None = None

    @property
    def needs_teacher(self) -> bool:
        """In the first phase only for `--pod`."""
        return self.phase == "final" or self.config.pod != "none"

    def begin_phase(self, student: SegmentationNet) -> None:
        """Keep the network of the first phase."""
        if self.sees_auxiliary:
            self.temporary = student.for_inference()

    def train(self, mode: bool = True) -> "ST":
        """The temporary model stays in evaluation mode."""
        super().train(mode)
        if self.temporary is not None:
            self.temporary.eval()
        return self

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"ce", "entropy"}, those that apply."""
        if batch.auxiliary is None:
            return {"ce": cross_entropy(student.logits, batch.labels)}
        count, config = len(batch.labels), self.config
        margin = MARGIN if config.st_conflict == "ignore" else 0.0
        seen = self._seen_by_temporary(batch.auxiliary, student.logits.dtype)
        fused = fuse(teacher.logits[count:], seen, margin)
        labels = torch.cat([fill_background(batch.labels, teacher.logits[:count]), fused])
        terms = {"ce": cross_entropy(student.logits, labels)}
        if config.st_entropy:
            terms["entropy"] = -config.st_entropy * entropy(student.logits)
        return terms

    @torch.no_grad()
    def _seen_by_temporary(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Logits (B, num_seen, H, W) of the temporary model, in the precision of the student."""
        mixed = dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(images.device.type, dtype if mixed else None, enabled=mixed):
            return self.temporary(images).logits

    def finish(self, student: SegmentationNet, previous: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """The next step needs no temporary model."""
        self.temporary = None


def fuse(old_logits: Tensor, temporary_logits: Tensor, margin: float) -> Tensor:
    """Labels (B, H, W) int64 from the logits of the old model (B, num_old, H, W) and of the temporary one (B, C, H, W).

    A conflict in which the probabilities differ by less than `margin` is ignored.
    """
    num_old = old_logits.shape[1]
    own = torch.cat([temporary_logits[:, :1], temporary_logits[:, num_old:]], dim=1)
    p_old, c_old = at_least_float32(old_logits).softmax(1).max(1)
    p_new, c_new = at_least_float32(own).softmax(1).max(1)
    c_new = torch.where(c_new > 0, c_new + num_old - 1, 0)
    takes_old = (c_old > 0) & ((c_new == 0) | (p_old >= p_new))
    undecided = (c_old > 0) & (c_new > 0) & ((p_old - p_new).abs() < margin)
    return torch.where(takes_old, c_old, c_new).masked_fill(undecided, IGNORE_INDEX)


def fill_background(labels: Tensor, old_logits: Tensor) -> Tensor:
    """`labels` (B, H, W) int64 with what the old model (B, num_old, H, W) sees where they are background."""
    return torch.where(labels == 0, old_logits.argmax(1), labels)

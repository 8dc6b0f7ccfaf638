"""PLOP: Learning without Forgetting for Continual Semantic Segmentation (Douillard et al., CVPR 2021).

METHODS 9, arXiv 2011.11390. Where nothing is labelled the teacher's confident predictions are the labels; local POD
holds the features.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from config import option, with_default
from methods.base import MethodConfig, State
from methods.finetune import FT
from methods.losses import adaptive_cross_entropy, cross_entropy
from methods.pooled_cube import at_least_float32
from methods.pseudo import histogram, medians, relabel, uncertainty
from segmentation_module import SegmentationNet, SegOutput
from tasks import Task
from utils.distributed import all_reduce_sum

BINS = {"entropy": 100, "median": 20}
BACKGROUND = 0


@dataclass(frozen=True, kw_only=True)
class PLOPConfig(MethodConfig):
    """Pseudo labels, and local POD as the distillation of the features."""

    pod: str = with_default(MethodConfig, "pod", "local")
    init_balanced: bool = with_default(MethodConfig, "init_balanced", True)
    init_bias: bool = with_default(MethodConfig, "init_bias", True)
    pseudo: str = option(
        "entropy",
        "the teacher's labels count where its entropy is below, or its probability above, the median of the class; "
        "or everywhere; or nowhere",
        choices=("entropy", "median", "naive", "none"),
    )
    threshold: float = option(0.001, "least entropy, or greatest probability, that the median may set as a bound")
    step_threshold: float = option(0.0, "what is added to --threshold in each later step")
    pseudo_nb_bins: int = option(0, "bins of the histograms; 0: 100 for entropy, 20 for median")
    classif_adaptive_factor: bool = option(True, "weigh an image by the part of its background that was labelled so")
    classif_adaptive_min_factor: float = option(0.0, "least such weight")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.pseudo_nb_bins >= 0, "pseudo_nb_bins", "0 or more")


class PLOP(FT):
    """Cross entropy on pseudo labels + local POD. Where domains arrive everything is labelled: no pseudo labels.

    `paper_exact`: the entropy is a sum over the classes, the median is one, and an image without background counts.
    """

    Config = PLOPConfig
    teaches = True

    def __init__(self, config: PLOPConfig, task: Task, step: int) -> None:
        super().__init__(config, task, step)
        self.pseudo = config.pseudo if step > 0 and self.new_classes_arrive else "none"
        self.scans = self.pseudo in BINS
        self.bounds: Tensor | None = None  # (num_old,), of each class of the teacher

    @classmethod
    def preset(cls, dataset: str, task: Task) -> dict[str, Any]:
        """METHODS 0.4 and 9."""
        start = {"init_balanced": False, "init_bias": False} if task.kind == "domain" else {}
        return super().preset(dataset, task) | start

    @torch.no_grad()
    def scan(self, teacher: SegmentationNet, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set the bound of each class from the histogram of all that is labelled background (METHODS 9, point 5)."""
        bins = self.config.pseudo_nb_bins or BINS[self.pseudo]
        counts: Tensor | int = 0
        for images, labels in batches:
            values, predicted = self._judged(teacher(images).logits)
            background = labels == BACKGROUND
            counts = counts + histogram(values[background], predicted[background], self.num_old, bins)
        # Of all processes: the public code lets each have bounds of its own.
        middles = torch.tensor(medians(all_reduce_sum(counts), exact=self.config.paper_exact))
        threshold = self.config.threshold + self.step * self.config.step_threshold
        limited = middles.clamp(min=threshold) if self.pseudo == "entropy" else middles.clamp(max=threshold)
        self.bounds = torch.where(middles.isnan(), threshold, limited)

    def own_losses(self, student: SegOutput, teacher: SegOutput | None, labels: Tensor) -> dict[str, Tensor]:
        """{"ce"}: see Method.losses."""
        if self.pseudo == "none" or teacher is None:
            return {"ce": cross_entropy(student.logits, labels)}
        with torch.no_grad():
            values, predicted = self._judged(teacher.logits)
            sure = self._sure(values, predicted)
            labels, share = relabel(labels, predicted, sure, self.num_old, exact=self.config.paper_exact)
        if not self.config.classif_adaptive_factor:
            return {"ce": cross_entropy(student.logits, labels)}
        factors = share.clamp(min=self.config.classif_adaptive_min_factor)
        return {"ce": adaptive_cross_entropy(student.logits, labels, factors)}

    def _judged(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W) each: how unsure the teacher is, or, for "median", how sure; and the class that it sees."""
        probabilities = at_least_float32(logits).softmax(1)
        highest, predicted = probabilities.max(1)
        if self.pseudo == "median":
            return highest, predicted
        return uncertainty(probabilities, self.num_seen, exact=self.config.paper_exact), predicted

    def _sure(self, values: Tensor, predicted: Tensor) -> Tensor:
        """(B, H, W) bool: where the teacher's label counts."""
        if self.pseudo == "naive":
            return torch.ones_like(predicted, dtype=torch.bool)
        bounds = self.bounds.to(values.device)[predicted]
        return values < bounds if self.pseudo == "entropy" else values > bounds

    def state(self, *, finished: bool) -> State:
        """The bounds; the next step finds its own."""
        return {} if finished or self.bounds is None else {"bounds": self.bounds}

    def load(self, state: State) -> None:
        """Go on with the same bounds."""
        self.bounds = state["bounds"] if self.scans else None

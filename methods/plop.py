"""PLOP: Learning without Forgetting for Continual Semantic Segmentation (Douillard et al., CVPR 2021).

arXiv 2011.11390.

    L = nu L_ce + L_pod                                                                             (METHODS 9)
    L_ce   cross entropy on the labels, and where these are background on what the teacher is sure of     (eq. 9)
    nu     share of an image's background that got such a label                                     (eq. 10)
    L_pod  local POD: distances of squared features, averaged over the strips of blocks             (eq. 5)

The teacher is sure where its entropy is below a bound of the class: the median over the training images of the step,
found once before training. Step 0, and domains and classes of whole images, where everything is labelled: plain cross
entropy. Between steps: the new classes start as copies of the background, weights and bias (MiB, eq. 10, 11).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from config import option, with_default
from methods.base import Batch, Method, MethodConfig
from methods.features import local_pod
from methods.losses import adaptive_cross_entropy, cross_entropy
from methods.pooled_cube import at_least_float32
from methods.pseudo import histogram, medians, relabel, uncertainty
from segmentation_module import SegmentationNet, SegOutput
from tasks import Step
from utils.distributed import all_reduce_sum

BINS = {"entropy": 100, "median": 20}
BACKGROUND = 0
NO_BACKGROUND = {"init_balanced": False, "init_bias": False}


@dataclass(frozen=True, kw_only=True)
class PLOPConfig(MethodConfig):
    """Pseudo labels, local POD, and the weights of the published runs."""

    pod: str = with_default(MethodConfig, "pod", "local")
    init_balanced: bool = with_default(MethodConfig, "init_balanced", True)
    init_bias: bool = with_default(MethodConfig, "init_bias", True)
    pseudo: str = option(
        "entropy",
        "the teacher's labels count where its entropy is below, or its probability above, the median of the class; "
        "or everywhere; or nowhere",
        choices=("entropy", "median", "naive", "none"),
    )
    threshold: float = option(0.001, "entropy: least bound of a class; median: greatest bound")
    pseudo_nb_bins: int = option(0, "bins of the histograms; 0: 100 for entropy, 20 for median")
    classif_adaptive_factor: bool = option(
        True, "entropy: weigh an image by the share of its background that got a label"
    )
    classif_adaptive_min_factor: float = option(0.0, "least such weight")

    presets: ClassVar = {
        "voc": {"pod_factor": 0.01, "pod_logits_factor": 0.0005},
        "ade": {"pod_factor": 1e-3, "pod_logits_factor": 1e-5},
        "cityscapes_domain": {"pod_factor": 1e-4, "pod_logits_factor": 1e-4, **NO_BACKGROUND},
        "cityscapes_domain 1-1": {"pod_factor": 1e-4, "pod_logits_factor": 1e-3},
    }


class PLOP(Method):
    """`paper_exact`: the entropy is a sum over the classes, the median is one, and no image is left out for nu = 0."""

    Config = PLOPConfig
    serves = ("classes", "domains", "images")
    by_image = True

    def __init__(self, config: PLOPConfig, step: Step) -> None:
        super().__init__(config, step)
        self.pseudo = config.pseudo if step.number > 0 and step.has_background else "none"
        if self.pseudo in BINS:
            self.register_buffer("bounds", torch.zeros(self.num_old))  # of each class of the teacher

    @torch.no_grad()
    def before(self, student: SegmentationNet, teacher: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """Set the bound of each class from the histogram of all that is labelled background (METHODS 9, point 5)."""
        if self.pseudo not in BINS:
            return
        bins = self.config.pseudo_nb_bins or BINS[self.pseudo]
        counts: Tensor | int = 0
        for images, labels, *_ in batches:
            values, predicted = self._judged(teacher(images).logits)
            background = labels == BACKGROUND
            counts = counts + histogram(values[background], predicted[background], self.num_old, bins)
        # Of all processes: the public code lets each have bounds of its own.
        middles = torch.tensor(medians(all_reduce_sum(counts), exact=self.config.paper_exact))
        threshold = self.config.threshold
        if self.pseudo == "entropy":
            self.bounds.copy_(torch.where(middles.isnan(), threshold, middles.clamp(min=threshold)))
        else:
            # A class that the teacher never predicts has the bound 0 in the public code: all its pixels count.
            self.bounds.copy_(torch.where(middles.isnan(), 0.0, middles.clamp(max=threshold)))

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"ce", "pod"}, those that apply; "ce" is nu L_ce."""
        config, labels = self.config, batch.labels
        if teacher is None:
            return {"ce": cross_entropy(student.logits, labels)}
        if self.pseudo != "none":
            labels, share = self._relabelled(labels, teacher.logits)
        if self.pseudo == "entropy" and config.classif_adaptive_factor:
            factors = share.clamp(min=config.classif_adaptive_min_factor)
            terms = {"ce": adaptive_cross_entropy(student.logits, labels, factors)}
        else:
            terms = {"ce": cross_entropy(student.logits, labels)}
        if config.pod == "local":
            terms |= local_pod(student, teacher, self.step, config)
        return terms

    @torch.no_grad()
    def _relabelled(self, labels: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
        """See `relabel`."""
        values, predicted = self._judged(teacher_logits)
        if self.pseudo == "naive":
            sure = torch.ones_like(predicted, dtype=torch.bool)
        else:
            bounds = self.bounds[predicted]
            sure = values < bounds if self.pseudo == "entropy" else values > bounds
        return relabel(labels, predicted, sure, self.num_old, exact=self.config.paper_exact)

    def _judged(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W) each: how unsure the teacher is, or, for "median", how sure; and the class that it sees."""
        probabilities = at_least_float32(logits).softmax(1)
        highest, predicted = probabilities.max(1)
        if self.pseudo == "median":
            return highest, predicted
        return uncertainty(probabilities, self.num_seen, exact=self.config.paper_exact), predicted

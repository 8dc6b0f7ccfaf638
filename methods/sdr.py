"""SDR: Continual Semantic Segmentation via Repulsion-Attraction of Sparse and Disentangled Latent Representations
(Michieli and Zanuttigh, CVPR 2021).

    L = L_ce + loss_kd L_kd + sdr_match L_m + sdr_attract L_a + sdr_repel L_r + sdr_sparse L_s       (METHODS 10)
    L_ce, L_kd  the objective of MiB, unchanged                                                 (methods/mib.py)
    L_m   mean_c mean_d (mean of e over the pixels that the teacher sees as old class c - P_c)_d^2
    L_a   mean_c mean_{pixels of c, d} (e - P_c)_d^2, c the classes labelled in the batch
    L_r   mean_{a != b} 1 / |m_a - m_b|, m_c the mean of e over the pixels of c in the batch
    L_s   mean_pixels sum_d exp(e'_d) / sum_d e'_d, e' = e / the largest number of e over the pixels of its class

e is a feature of the body. P_c, the prototype of class c, is the mean of e over all pixels of c that trained so far. A
batch counts in it before its own losses are computed (METHODS2 27.1). L_m is over pixels that are labelled background.
The background has a prototype in step 0 of disjoint tasks alone, where no class hides in it. Else its P is 0, and L_a
pulls it there, as in the public code. See methods/latent.py.

A batch is that of all processes. Step 0: plain cross entropy and, with `sdr_sparse_first`, L_s. Between steps: the
prototypes of old classes stay, since none is labelled any more. New classifiers start at random. The published rows
"MiB+SDR" are built on MiB: `--init_balanced --init_bias`.

Choices where the specification leaves one [design]: ignored pixels are of no class. A class without prototype is
matched with nothing. In L_s numbers below 0, which the leaky body has, are 0, and a feature of zeros does not count.
Features that are not finite are not remembered. In a partitioned scenario the background has no prototype.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from config import option, with_default
from methods.base import Batch, Method
from methods.latent import attract, class_sums, match, repel, sparsity
from methods.losses import labels_at
from methods.mib import MiB, MiBConfig
from segmentation_module import SegmentationNet, SegOutput
from tasks import Step
from utils.constants import IGNORE_INDEX
from utils.distributed import all_reduce_sum

BACKGROUND = 0


@dataclass(frozen=True, kw_only=True)
class SDRConfig(MiBConfig):
    """MiB's options, and the weights of the terms that order the features of the body."""

    init_balanced: bool = with_default(MiBConfig, "init_balanced", False)
    init_bias: bool = with_default(MiBConfig, "init_bias", False)
    loss_kd: float = with_default(MiBConfig, "loss_kd", 100.0)
    sdr_match: float = option(0.01, "weight of the distance to the prototype of what the teacher sees; 0 leaves it out")
    sdr_attract: float = option(0.001, "weight of the distance of features to that of their label; 0 leaves it out")
    sdr_repel: float = option(0.001, "weight of 1 / distance of the mean features of two classes; 0 leaves it out")
    sdr_sparse: float = option(0.001, "weight of the sparsity of the features of the body; 0 leaves it out")
    sdr_sparse_first: float = option(0.0, "the same in step 0")


class SDR(Method):
    """`paper_exact`: as in MiB."""

    Config = SDRConfig
    serves = ("classes",)
    reason = "it matches old classes that are labelled background, and there is none"

    def __init__(self, config: SDRConfig, step: Step) -> None:
        super().__init__(config, step)
        self.mib = MiB(config, step)
        self.remembers_background = step.number == 0 and step.task.scenario == "disjoint"

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Make room for the prototype of each class, and for how many features it is the mean of."""
        super().shape(student, previous)
        self.register_buffer("prototypes", torch.zeros(self.num_seen, student.body.out_channels))
        self.register_buffer("counts", torch.zeros(self.num_seen, dtype=torch.float64))

    def inherit(self, state: dict[str, Tensor]) -> None:
        """Take over the prototypes of old classes. UserError where there are none."""
        for name, buffer in self.named_buffers():
            if name not in state:
                raise self.lacking(name)
            buffer[: len(state[name])] = state[name]

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """Those of MiB and {"match", "attract", "repel", "sparse"}, those that apply."""
        config, features = self.config, student.features["layer4"]
        labels = labels_at(features, batch.labels)
        self._remember(features, labels)
        terms = self.mib.losses(batch, student, teacher)
        if sparse := config.sdr_sparse_first if teacher is None else config.sdr_sparse:
            terms["sparse"] = sparse * sparsity(features, labels, self.num_seen)
        if teacher is None:
            return terms
        if config.sdr_match:
            seen = labels_at(features, teacher.logits.argmax(1))
            seen = seen.where((labels == BACKGROUND) & (seen != BACKGROUND), IGNORE_INDEX)
            terms["match"] = config.sdr_match * match(features, seen, self.prototypes, self.counts > 0)
        if config.sdr_attract:
            terms["attract"] = config.sdr_attract * attract(features, labels, self.prototypes)
        if config.sdr_repel:
            terms["repel"] = config.sdr_repel * repel(features, labels, self.num_seen)
        return terms

    @torch.no_grad()
    def _remember(self, features: Tensor, labels: Tensor) -> None:
        """Take the features of a batch, of all processes, into the means."""
        if not self.remembers_background:
            labels = labels.masked_fill(labels == BACKGROUND, IGNORE_INDEX)
        sums, counts = class_sums(features, labels, self.num_seen)
        found = all_reduce_sum(torch.cat([sums, counts[:, None]], dim=1).double())
        found = found.where(found.isfinite().all(), 0)
        total = self.counts + found[:, -1]
        known = self.prototypes * self.counts[:, None]
        self.prototypes.copy_((known + found[:, :-1]) / total.clamp(min=1)[:, None])
        self.counts.copy_(total)

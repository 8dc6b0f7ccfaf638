"""STAR: Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution in Class-Incremental
Semantic Segmentation (Chen et al., NeurIPS 2023).

    L = L_mix + star_pkd L_pkd + star_cont L_cont                                               (METHODS2 19)
    L_mix   binary cross entropy of the new classes: over all pixels, over features of old classes, which are drawn from
            what is remembered of them, and once more over features of the background, in the proportions of the past
    L_pkd   squared difference of the head's features, where the teacher sees an old class and nothing is labelled
    L_cont  1 / distance of the mean direction of a new class to the nearest prototype

    L_mix = (L_mbce + v_f L_fake + v_b L_bg) / (1 + v_f + v_b)
    f~ = (P_c + eps sigma_c) nu, eps ~ N(0, 1), nu ~ N(mu_c, s_c^2)

In step 0: L_mbce. After each step a class leaves the mean direction P_c of its features and the deviation sigma_c from
it, mean mu_c and deviation s_c of their norms, and how often it was there. No image is stored. What is counted, is
counted at the centres of feature pixels. Counts, means and sums are over the images of all processes, and each process
draws its share of the features: several compute what one does, but for the random numbers of these. Between steps: new
classifiers start at random. STAR-M has a memory (methods/foreground.py), whose images are counted, too.

Choices where the specification leaves one: a class without feature leaves zeros, and no prototype to be compared with
[design]; its counts in a partitioned scenario go by the rule of the disjoint one, as no image comes twice [design].
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from config import option, with_default
from methods.base import Batch
from methods.foreground import ForegroundConfig, ForegroundMethod
from methods.pooled_cube import at_least_float32
from methods.prototypes import (
    Classes,
    at_centres,
    classes_of,
    contrast,
    draw,
    masked_distillation,
    plan,
    resized,
    seen_classes,
    sums_by_class,
)
from segmentation_module import SegmentationNet, SegOutput
from tasks import Step
from utils.distributed import all_reduce_sum, mean_over_processes, rank, world_size

BACKGROUND = 0
LABELS = 256


@dataclass(frozen=True, kw_only=True)
class STARConfig(ForegroundConfig):
    """Weights of the terms, and what is replayed."""

    classifier_rate: float = with_default(ForegroundConfig, "classifier_rate", 100.0)
    star_replay: bool = option(True, "replay features of old classes and of the background")
    star_pkd: float = option(5.0, "weight of the distillation where the teacher sees old classes; 0 leaves it out")
    star_cont: float = option(0.05, "weight of the distance of new classes to old ones; 0 leaves it out")

    presets: ClassVar = {
        "voc": {"lr": (0.001, 0.0001), "epochs": (60,), "pos_weight_first": 4.0, "pos_weight": 4.0},
        "ade": {
            "lr": (0.0025, 0.00025),
            "epochs": (100,),
            "warmup_share": 0.2,
            "pos_weight_first": 30.0,
            "pos_weight": 30.0,
        },
        "cityscape": {"lr": (0.001, 0.0001)},
    }


class STAR(ForegroundMethod):
    """`paper_exact`: a replayed feature has one norm, not one for each channel, and its direction has length 1."""

    Config = STARConfig
    serves = ("classes",)
    reason = "its background is where no class is found, and there is none"

    def __init__(self, config: STARConfig, step: Step) -> None:
        super().__init__(config, step)
        # Not tensors, for which the host would wait.
        self.replay = [0] * (max(self.num_old, 1) - 1)  # features of each old class in an iteration
        self.background = 0.0  # how much a feature of the background counts
        self._drawn: Tensor | None = None  # the class of each replayed feature, made of `replay`

    def get_extra_state(self) -> dict[str, Any]:
        """What the state dict holds beside tensors."""
        return {"replay": self.replay, "background": self.background}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Resume from what `get_extra_state` gave."""
        self.replay, self.background = [int(count) for count in state["replay"]], float(state["background"])
        self._drawn = None

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Make room for what is remembered of each class, and for the counts, of the background, too."""
        super().shape(student, previous)
        num_classes, channels = self.num_seen - 1, student.classifiers[0].in_channels
        for name in Classes._fields:
            size = (num_classes,) if name.startswith("norm") else (num_classes, channels)
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("counts", torch.zeros(self.num_seen, dtype=torch.float64))

    def inherit(self, state: dict[str, Tensor]) -> None:
        """Take over what is remembered of old classes. UserError where there is nothing."""
        for name, buffer in self.named_buffers():
            if name not in state:
                raise self.lacking(name)
            buffer[: len(state[name])] = state[name]

    @property
    def known(self) -> Classes:
        """What is remembered of old classes."""
        return Classes(*(getattr(self, name)[: len(self.replay)] for name in Classes._fields))

    @torch.no_grad()
    def before(self, student: SegmentationNet, teacher: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """Count the labels, and what the teacher sees of old classes; from both, how much to replay."""
        labelled, predicted, iterations = self.counts.new_zeros(LABELS), self.counts.new_zeros(LABELS), 0
        with evaluating(student):
            for images, labels, *_ in batches:
                iterations += 1
                # A forward pass of one image tells how large the maps are.
                seen = teacher(images) if teacher is not None else student(images[:1])
                at_grid = at_centres(labels, seen.features["pre_logits"])
                labelled += at_grid.flatten().bincount(minlength=LABELS)
                if teacher is not None:
                    found = at_centres(seen_classes(seen.logits), seen.features["pre_logits"])
                    predicted += found[at_grid == BACKGROUND].bincount(minlength=LABELS)
        labelled, predicted = all_reduce_sum(torch.stack([labelled, predicted])).tolist()
        if teacher is None:
            self.counts.copy_(torch.tensor(labelled[: self.num_seen]))
            return
        of_step = plan(
            self.counts[: self.num_old].tolist(),
            predicted[: self.num_old],
            labelled[self.num_old : self.num_seen],
            iterations=iterations,
            overlapped=self.step.task.scenario == "overlapped",
        )
        self.set_extra_state(of_step._asdict())
        self.counts.copy_(torch.tensor(of_step.counts))

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"bce"} in step 0, later {"mix", "pkd", "cont"}, those that apply."""
        config = self.config
        if teacher is None:
            return {"bce": self.new_classes(batch, student)}
        seen, features = seen_classes(teacher.logits), student.features["pre_logits"]
        unlabelled = batch.labels == BACKGROUND
        terms = {"mix": self._mixed(batch, student, unlabelled & (seen == BACKGROUND))}
        if config.star_pkd:
            mask = resized(unlabelled & (seen > BACKGROUND), at_least_float32(features))
            held = masked_distillation(features, teacher.features["pre_logits"], mask)
            terms["pkd"] = config.star_pkd * held
        if config.star_cont:
            classes = range(self.num_old, self.num_seen)
            terms["cont"] = config.star_cont * contrast(features, batch.labels, classes, self.known.prototypes)
        return terms

    def _mixed(self, batch: Batch, student: SegOutput, background: Tensor) -> Tensor:
        """L_mix; `background` (B, H, W): where nothing is labelled, and the teacher sees nothing."""
        labelled = self.new_classes(batch, student)
        if not self.config.star_replay:
            return labelled
        small = at_least_float32(student.features["logits_small"])[:, self.num_old :]
        places = small.shape[0] * small.shape[2] * small.shape[3]
        mask = at_centres(background, small).to(small.dtype)
        total = labelled + self.background * (F.softplus(small).sum(1) * mask).sum() / places
        weight = 1 + self.background * mask.sum() / places
        drawn = self._drawn_classes(small.device)
        if len(drawn):
            features = draw(self.known, drawn, exact=self.config.paper_exact)
            weights, biases = student.weight[self.num_old :, :, 0, 0], student.bias[self.num_old :]
            fake = F.softplus(F.linear(features, weights, biases)).sum()
            total, weight = total + fake / places, weight + len(drawn) / places
        return total / mean_over_processes(weight)

    def _drawn_classes(self, device: torch.device) -> Tensor:
        """The class of each feature that this process replays in an iteration, its share of those of all."""
        if self._drawn is None:
            drawn = [old for old, count in enumerate(self.replay) for _ in range(count)]
            self._drawn = torch.tensor(drawn[rank() :: world_size()], dtype=torch.int64).to(device)
        return self._drawn

    @torch.no_grad()
    def finish(self, student: SegmentationNet, previous: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """Remember the new classes."""
        sums: Tensor | int = 0
        with evaluating(student):
            for images, labels, *_ in batches:
                features = student(images).features["pre_logits"]
                sums = sums + sums_by_class(features, at_centres(labels, features), self.num_seen)
        new = slice(max(self.num_old, 1), None)
        for name, found in classes_of(all_reduce_sum(sums)[new])._asdict().items():
            getattr(self, name)[len(self.replay) :] = found


@dataclass(frozen=True, kw_only=True)
class STARMConfig(STARConfig):
    """A memory of the published size."""

    mem_size: int = with_default(STARConfig, "mem_size", 50)


class STAR_M(STAR):
    """STAR with a memory."""

    Config = STARMConfig
    serves = ("classes",)
    reason = STAR.reason


@contextmanager
def evaluating(network: SegmentationNet) -> Iterator[None]:
    """In evaluation mode during the block, and then as before."""
    mode = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(mode)

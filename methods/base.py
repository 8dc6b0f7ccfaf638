"""What a method is: the objective of one step, and what must be remembered for the next.

A method is an nn.Module in a file of its own. Its layers are trained, and all its parameters and buffers are saved and
resumed like the student's; there is no other state. Buffers must be the same in all processes of a run.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from config import Checked, option
from dataset.memory import WHOLE_IMAGES, MemoryRule
from methods.features import FeatureConfig, feature_distillation
from segmentation_module import SegmentationNet, SegOutput
from tasks import Step
from utils.errors import UserError
from utils.optim import Group

Presets = Mapping[str, Mapping[str, Any]]
"""Values of the published runs: "DATASET" or "DATASET TASK" -> option -> value. Later keys and subclasses win."""


class Batch(NamedTuple):
    """Training images and their labels, on the device."""

    images: Tensor  # (B, 3, H, W) float32, normalised
    labels: Tensor  # (B, H, W) int64 in [0, num_seen), or 255 = ignored
    saliency: Tensor | None = None  # (B, H, W) bool, where the method asks for it: what stands out
    auxiliary: Tensor | None = None  # as `images`, in the phases of Method.auxiliary: as many, without labels

    def parts(self, count: int) -> "list[Batch]":
        """The same images in `count` batches, all of one size."""
        chunks = ([None] * count if of_all is None else of_all.chunk(count) for of_all in self)
        return [Batch(*part) for part in zip(*chunks, strict=True)]


@dataclass(frozen=True, kw_only=True)
class MethodConfig(FeatureConfig, Checked):
    """Options that every method has; a method adds its own, other defaults and presets in a subclass."""

    branches: int = option(1, "branches per convolution: 1 plain network, 2 the RC network", choices=(1, 2))
    init_balanced: bool = option(False, "start new classifiers from the background's weights")
    init_bias: bool = option(False, "with it set the biases too, to the background's minus ln(new classes + 1)")
    mem_size: int = option(
        0,
        "images of earlier steps that are seen again; the checkpoint has their names; for DKD, STAR, SSUL, and for all "
        "methods where classes of whole images arrive",
    )
    paper_exact: bool = option(False, "follow the paper where the public code differs from it, see docs/METHODS.md")

    presets: ClassVar[Presets] = {
        # The schedules of all baselines (METHODS 0.4).
        "voc": {"lr": (0.01, 0.001), "epochs": (30,)},
        "voc 10-1": {"epochs": (30, 10)},
        "ade": {"lr": (0.01, 0.001), "epochs": (60,)},
        "cityscapes_domain": {"lr": (0.01, 0.001), "epochs": (50,)},
        "cityscape": {"lr": (0.01, 0.001), "epochs": (50,)},
    }

    @classmethod
    def preset(cls, dataset: str, task: str) -> dict[str, Any]:
        """Values of the published runs by option name: of this method's options and of the optimiser's."""
        values: dict[str, Any] = {}
        for config in reversed(cls.__mro__):
            own = config.__dict__.get("presets", {})
            values |= {**own.get(dataset, {}), **own.get(f"{dataset} {task}", {})}
        return values


class Method(nn.Module):
    """Base of all methods. One object serves one step.

    A subclass says what it `serves`, names its `Config` and computes `losses`; methods/__init__.py lists it. All else
    is for methods that need more. The order of calls: `shape` and `inherit`; then, where the step starts, `initialise`,
    `begin_phase` and `before`, or, where it is resumed, `begin_phase` and the loading of the saved state; then for each
    batch `losses` and, once the gradients are there, `after_backward`; at each later phase `begin_phase`; after the
    last epoch `finish`.
    """

    Config: ClassVar[type[MethodConfig]]
    """Options and presets."""
    bases: ClassVar[Mapping[str, type[MethodConfig]]] = {}
    """Of a method that adds to one of several others: by what `--base` names its Config on that one; `Config` is that
    of the usual one."""
    serves: ClassVar[tuple[str, ...]]
    """Settings in which it makes sense: "classes" of pixels, "domains", "images", whose classes arrive."""
    reason: ClassVar[str] = ""
    """Why it does not serve the others."""
    phases: ClassVar[tuple[str, ...]] = ("train",)
    """Phases of a step >= 1, each with all epochs and a schedule of its own; `self.phase` is the present one. Step 0
    has only the last; see `phases_of_step`."""
    auxiliary: ClassVar[tuple[str, ...]] = ()
    """Phases of steps >= 1 whose batches bring images without labels, too (`--aux_root`): Batch.auxiliary has them
    there, and the outputs of both networks are those of its images, and behind them of the auxiliary ones."""
    heads: ClassVar[tuple[str, ...]] = ("sum", "concat")
    """What of `--head` it knows: those whose classifiers are 1x1, unless it says otherwise."""
    memory_rule: ClassVar[MemoryRule | None] = None
    """How it keeps images of earlier steps where these have a background, in which it says of what it is `confident`.
    Without one it keeps none there. Whole images all methods keep in one way: see `rule`."""
    by_image: ClassVar[bool] = False
    """Whether each of its losses is a mean over the images of a batch, so that a batch may be seen in parts
    (`--accumulate`)."""
    knows_unknown: ClassVar[bool] = False
    """Whether it trains the classifier of the unknown, which a network may have."""

    def __init__(self, config: MethodConfig, step: Step) -> None:
        super().__init__()
        self.config = config
        self.step = step
        self.num_old = step.num_old
        self.num_seen = step.num_seen
        self.phase = self.phases[-1]

    @property
    def phases_of_step(self) -> tuple[str, ...]:
        """The phases of this step. Empty where nothing trains by gradient: `finish` is all that happens then."""
        return self.phases if self.step.number else self.phases[-1:]

    @property
    def sees_auxiliary(self) -> bool:
        """Whether the batches of the present phase bring images without labels."""
        return self.step.number > 0 and self.phase in self.auxiliary

    @property
    def needs_teacher(self) -> bool:
        """Whether `losses` or `before` reads the teacher at steps >= 1, in this phase. If in any, then in the last."""
        return True

    @property
    def data_options(self) -> dict[str, Any]:
        """What it asks for beside images and labels, as options of TaskData.train."""
        auxiliary = bool(self.step.number and self.auxiliary)
        return {"rule": self.rule, "saliency": self.needs_saliency, "auxiliary": auxiliary}

    @property
    def rule(self) -> MemoryRule | None:
        """How it keeps images of earlier steps; None: not at all."""
        return self.memory_rule if self.step.has_background else WHOLE_IMAGES

    @property
    def needs_saliency(self) -> bool:
        """Whether `losses` reads the saliency maps of the data set."""
        return False

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Give the student its structure, and say what of it trains (`requires_grad_`, `Norm.freeze_`).

        `previous`: the network of the step before, None in step 0. Runs at every start, before a saved state is loaded:
        it must be idempotent.
        """
        if previous is not None and self.config.branches == 2:
            student.freeze_merged_(previous)

    def inherit(self, state: dict[str, Tensor]) -> None:
        """Take over `state`, the state dict of this method at the end of the step before; steps >= 1 only.

        It is empty where another method trained that step. Raises `lacking` where this one cannot do without.
        """

    def lacking(self, entry: str) -> UserError:
        """What `inherit` raises where the state of the step before has no `entry`."""
        name = type(self).__name__.replace("_", "-")
        return UserError(
            f"the checkpoint of step {self.step.number - 1} holds no {entry}, which --method {name} needs: train that "
            "step with it, too, or name such a file with --step_ckpt"
        )

    @torch.no_grad()
    def initialise(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Give the new classifier, and layers of its own, their first values. Only where the step starts.

        `init_balanced`: the new weights are copies of the background's (channel 0), with `init_bias` both biases become
        the background's minus ln(new classes + 1), as in MiB (SPEC 6). Otherwise, and without a background, they keep
        their random start.
        """
        if previous is None or not self.step.has_background or not self.config.init_balanced:
            return
        background, new = student.classifiers[0], student.classifiers[-1]
        new.weight.copy_(background.weight[:1].expand_as(new.weight))
        if self.config.init_bias or self.config.paper_exact:
            background.bias[0] -= math.log(new.out_channels + 1)
            new.bias.fill_(background.bias[0])

    def groups(self, student: SegmentationNet) -> dict[str, Group]:
        """All parameters that may train, in groups by name; `old_classifiers` have the rate of `--lr_old`, too."""
        *old, new = student.classifiers
        return {
            "body": Group(list(student.body.parameters())),
            "head": Group(list(student.head.parameters())),
            "old_classifiers": Group([parameter for classifier in old for parameter in classifier.parameters()]),
            "classifiers": Group(list(new.parameters())),
            "method": Group(list(self.parameters())),
        }

    def before(self, student: SegmentationNet, teacher: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """One look at the step's data, where it starts: `batches` are those of its first epoch, read only if iterated.

        What is found must be kept in buffers. The student is in training mode: a forward pass moves the statistics of
        its norms, unless it is put into evaluation mode for it.
        """

    def begin_phase(self, student: SegmentationNet) -> None:
        """A phase starts, or is resumed: `self.phase`. Layers and buffers that it alone has can be made here.

        Where it is resumed `student` is as it was saved, and the state of the method is loaded afterwards.
        """

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """Terms of the objective by name, 0-d, weighted; their sum is minimised.

        `student.logits` (B, num_seen, H, W), `teacher.logits` (B, num_old, H, W). `teacher` is None at step 0, and
        where `needs_teacher` is false. Under mixed precision both may be bfloat16 or float16: see losses.py.
        """
        raise NotImplementedError

    def forward(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """`losses`, and for an ablation the distillation of features of another method (`--pod`)."""
        terms = self.losses(batch, student, teacher)
        if teacher is not None and self.config.pod != type(self.config).pod:
            terms |= feature_distillation(student, teacher, self.step, self.config)
        return terms

    def after_backward(self) -> dict[str, Tensor]:
        """Read the gradients of `losses`, averaged over processes and finite, and add those of penalties on weights.

        Returns the penalties by name, 0-d, for the log.
        """
        return {}

    def confident(self, output: SegOutput) -> Tensor:
        """(B, H, W): the old class that the network of the step before is sure of, for the memory; 0 elsewhere."""
        raise NotImplementedError

    def finish(self, student: SegmentationNet, previous: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """Act after the last epoch, before the step is validated and saved; `batches` and `student` as in `before`.

        Runs exactly once: a run that is resumed after it knows that it is done. The state dict that is left is what the
        next step inherits. In a step without phases it may be stopped midway, and then starts anew with the step.
        """

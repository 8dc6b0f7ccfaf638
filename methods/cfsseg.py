"""CFSSeg: Closed-Form Solution for Class-Incremental Semantic Segmentation (Li et al., ACM MM 2025).

    step 0    L = L_bce = mean_valid sum_c BCE(student_c, 1(label = c)), background included          (METHODS2 20)
    then      W_t = argmin_W sum_{s <= t} |E_s W - Y_s|^2 + ridge |W|^2, with E = ReLU(X Phi)
              W_t = (A + ridge I)^-1 Q, with A = sum_{s <= t} E_s^T E_s and Q = sum_{s <= t} E_s^T Y_s
    scores    S = E W, at the resolution of the features, then upsampled

X are the features of the head, in evaluation mode, Phi is a random map that stays as it is, and Y the labels, nearest,
as rows of zeros and one 1; ignored pixels are left out. A class is 0 in the rows of the steps before it. A step after
the first is one pass over its training batches, which adds to A and Q, and one solution; nothing trains. So W does not
depend on the order of the images, the size of the batches or the number of processes, but for rounding and for the last
batch, which is left out where it is not full. It is what all steps together would give. That the batches are random
crops makes it depend on the seed.

Pseudo labels, in all steps but the first: a background pixel becomes the old class of the largest sigmoid of the scores
of W_{t-1}, if that is `pseudo_confidence` or more. The scores are frozen during the pass (METHODS2 20; the public code
takes those of the model that it updates, batch by batch). The threshold is the paper's 0.6, the code has 0.7; 8192
features and ridge 1 are the paper's, too. Where domains arrive all is labelled: no pseudo labels.

Between steps: A, packed, Q and Phi are carried. At the end of step 0 a pass with its labels finds the first A and Q
(the "re-alignment"). The network of step 0 keeps the classifier that it trained; from step 1 on that of W stands in its
place. In step 0 the body learns at a tenth of the rate (METHODS2 20). The authors' head has a 3x3 convolution and a
norm more, as `--head concat` has. The published batch of step 0 has 32 images. METHODS2 20 names its 50 epochs without
a data set: that all have them is a guess of ours [design].
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import option
from methods.base import Batch, Group, Method, MethodConfig
from methods.losses import labels_at, valid_binary_cross_entropy
from methods.ridge import add_sums_, confident_labels, packed, solve, unpacked
from modules.random_features import RandomFeatures
from segmentation_module import SegmentationNet, SegOutput
from utils.distributed import all_reduce_sum
from utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class CFSSegConfig(MethodConfig):
    """The regression, its pseudo labels, and how fast the body learns in step 0."""

    expansion: int = option(
        8192, "random features that the classifiers see; memory grows with its square: 2048 needs 1/16", least=1
    )
    ridge: float = option(1.0, "weight of the squared norm of the classifiers beside the squared errors")
    pseudo_confidence: float = option(
        0.6, "least sigmoid of an old class's score that makes background its pseudo label; 0: no pseudo labels"
    )
    body_rate: float = option(0.1, "factor on the learning rate of the body")

    presets: ClassVar = {name: {"epochs": (50, 1)} for name in ("voc", "ade", "cityscapes_domain", "cityscape")}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.ridge > 0, "ridge", "above 0")
        self.require(0 <= self.pseudo_confidence <= 1, "pseudo_confidence", "0 to 1")
        self.require(self.body_rate > 0, "body_rate", "above 0")


class CFSSeg(Method):
    """`paper_exact`: Phi is standard normal. The public code draws it as the weights of any layer."""

    Config = CFSSegConfig
    serves = ("classes", "domains", "images")

    @property
    def phases_of_step(self) -> tuple[str, ...]:
        """Step 0 trains; the others are solved in `finish`."""
        return () if self.step.number else self.phases

    @property
    def needs_teacher(self) -> bool:
        """The student is what it was, until it is solved anew."""
        return False

    def shape(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """From step 1 on the classifiers see random features, and nothing trains."""
        like = student.classifiers[0].weight
        self.phi = RandomFeatures(student.head.channels, self.config.expansion).to(like)
        # Empty until the end of step 0, or checkpoints in the midst of it would hold them.
        self.register_buffer("gram", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("moment", torch.zeros(0, dtype=torch.float64))
        if previous is not None:
            student.expand_(self.config.expansion)
            student.requires_grad_(False)

    def inherit(self, state: dict[str, Tensor]) -> None:
        """Take over Phi and the sums, without a pixel of the new classes. UserError where there are none."""
        for entry in ("phi.weight", "gram", "moment"):
            if entry not in state:
                raise self.lacking(entry)
        weight, self.gram, moment = state["phi.weight"], state["gram"], state["moment"]
        if weight.shape != self.phi.weight.shape:
            size, before = self.config.expansion, self.step.number - 1
            raise UserError(f"--expansion {size}: step {before} has {len(weight)}; give that")
        self.phi.load_state_dict({"weight": weight})
        self.moment = F.pad(moment, (0, self.num_seen - moment.shape[1]))

    @torch.no_grad()
    def initialise(self, student: SegmentationNet, previous: SegmentationNet | None) -> None:
        """Draw Phi in step 0; later the student takes it over."""
        if previous is not None:
            student.expand.load_state_dict(self.phi.state_dict())
        elif self.config.paper_exact:
            nn.init.normal_(self.phi.weight)

    def groups(self, student: SegmentationNet) -> dict[str, Group]:
        """The groups of every method; the body learns more slowly."""
        return super().groups(student) | {"body": Group(list(student.body.parameters()), rate=self.config.body_rate)}

    def losses(self, batch: Batch, student: SegOutput, teacher: SegOutput | None) -> dict[str, Tensor]:
        """{"bce"}, of step 0."""
        return {"bce": valid_binary_cross_entropy(student.logits, batch.labels)}

    @torch.no_grad()
    def finish(self, student: SegmentationNet, previous: SegmentationNet | None, batches: Iterable[Batch]) -> None:
        """Add the pixels of the step to the sums and, from step 1 on, solve for the classifiers."""
        device, size = self.phi.weight.device, self.config.expansion
        gram = torch.zeros(size, size, dtype=torch.float64, device=device)
        moment = torch.zeros(size, self.num_seen, dtype=torch.float64, device=device)
        least = self.config.pseudo_confidence if previous is not None and self.step.has_background else 0
        if least:
            self.solve_(student)  # for the scores of the step before
        student.eval()
        for images, y, *_ in batches:
            features = student(images).features
            labels = confident_labels(features["logits_small"][:, : self.num_old], y, least) if least else y
            expanded = self.phi(features["pre_logits"])
            add_sums_(gram, moment, expanded, labels_at(expanded, labels))
        student.train()
        gram, moment = packed(all_reduce_sum(gram)), all_reduce_sum(moment)
        if previous is None:
            self.gram, self.moment = gram, moment
        else:
            self.gram, self.moment = self.gram + gram, self.moment + moment
            self.solve_(student)

    @torch.no_grad()
    def solve_(self, student: SegmentationNet) -> None:
        """Give the classifiers the weights of the present sums. They have no bias: it is 0."""
        config = self.config
        try:
            weights = solve(unpacked(self.gram, config.expansion), self.moment, config.ridge).T
        except torch.linalg.LinAlgError:
            raise UserError(f"--ridge {config.ridge:g}: the regression has no solution in float64; raise it") from None
        parts = weights.split([classifier.out_channels for classifier in student.classifiers])
        for classifier, part in zip(student.classifiers, parts, strict=True):
            classifier.weight.copy_(part[..., None, None])
            classifier.bias.zero_()

"""The contrast between pixels of UCD (METHODS 11, METHODS2 27.2), at a cost that does not grow with the batch.

Anchors are pixels of the student that pull and push keys: pixels of the student, without gradient, and of the teacher.
Of both only some are drawn. A pixel that is drawn stands for all of its class, divided by those of it that were drawn:
so the sum over negatives, and the mean over anchors, are on average those over all pixels. The anchors of a process are
compared with keys of all: where nothing has to be drawn, several processes compute what one does with all images.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.pooled_cube import at_least_float32
from utils.constants import IGNORE_INDEX
from utils.distributed import all_gather, all_reduce_sum, broadcast, mean_over_processes, rank

BACKGROUND = 0


class Pixels(NamedTuple):
    """Some pixels of a batch. Those of weight 0 do not count."""

    features: Tensor  # (n, D), of length 1
    classes: Tensor  # (n,) int64
    beliefs: Tensor  # (n, num_old), the teacher's probabilities
    places: Tensor  # (n,) int64, another one for each pixel; that of an anchor is also that of its copy among the keys
    weights: Tensor  # (n,) for how many pixels each stands

    @property
    def labelled(self) -> Tensor:
        """(n,) bool: the class is the label, and not what the teacher sees."""
        return self.classes >= self.beliefs.shape[1]


def uncertainty_contrast(
    features: Tensor,
    known: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    sizes: tuple[int, int],
) -> Tensor:
    """`contrast` of a batch; `sizes`: at most so many anchors of each process, and keys of all together.

    features, known (B, D, h, w) of student and teacher; teacher_logits (B, num_old, h, w); labels (B, h, w). A pixel
    of a new class has its label, any other one the class that the teacher sees.
    """
    new = labels >= teacher_logits.shape[1]  # or ignored, which no class stands for below
    classes = torch.where(new, labels, teacher_logits.argmax(1))
    classes = classes.masked_fill(labels == IGNORE_INDEX, BACKGROUND).flatten()
    beliefs, count = _rows(at_least_float32(teacher_logits).softmax(1)), len(classes)
    places, weights = draw(classes, sizes[0])
    seen = _of_length_1(_rows(features)[places])
    # Places count all that may be keys: of each process the student's pixels, and then the teacher's.
    anchors = Pixels(seen, classes[places], beliefs[places], places + 2 * count * rank(), weights.to(seen))
    # The teacher has never seen a new class.
    classes = torch.cat([classes, classes.masked_fill(new.flatten(), BACKGROUND)])
    classes = all_gather(classes).flatten()
    places, weights = (broadcast(drawn) for drawn in draw(classes, sizes[1]))
    at, of_teacher = places % count, (places // count % 2 == 1)[:, None]
    seen, remembered = (_rows(maps.detach())[at] for maps in (features, known))
    seen = _of_length_1(torch.where(of_teacher, remembered, seen))
    # Each process gives what it has, and 0 for the rest.
    own = (places // (2 * count) == rank())[:, None]
    seen, believed = (all_reduce_sum(rows.where(own, 0)) for rows in (seen, beliefs[at]))
    keys = Pixels(seen, classes[places], believed, places, weights.to(seen))
    return contrast(anchors, keys, temperature)


def contrast(anchors: Pixels, keys: Pixels, temperature: float) -> Tensor:
    """Mean over anchors i, and over their positives j, of -P_ij log(e_ij / (e_ij + sum_k e_ik)), k the negatives of i.

    e_ij = exp(cosine of both / temperature). Positives are of the same class, without the anchor's own copy; negatives
    are of another. P_ij: how likely both are of one class to the teacher; 1 where both are labelled. Anchors without
    positives are left out; 0 where there are no others. The mean over anchors is that over those of all processes, if
    what each of them gets is averaged.
    """
    with torch.autocast(anchors.features.device.type, enabled=False):
        similar = anchors.features @ keys.features.T / temperature
        same, counts = anchors.classes[:, None] == keys.classes, keys.weights > 0
        with torch.no_grad():
            positive = same & counts & (anchors.places[:, None] != keys.places)
            alike = (anchors.beliefs @ keys.beliefs.T).masked_fill(anchors.labelled[:, None] & keys.labelled, 1)
            number = positive.sum(1)
            share = anchors.weights * (number > 0)
            share = share / mean_over_processes(share.sum()) / number
            alike = (alike * share[:, None]).masked_fill(~positive, 0)  # also where the share is 0 / 0
        negatives = (similar + keys.weights.log()).masked_fill(same | ~counts, -math.inf).logsumexp(1, keepdim=True)
        return -(alike * F.logsigmoid(similar - negatives)).sum()


@torch.no_grad()
def draw(classes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Places of at most `size` of the `classes` (n,), and for how many each stands: all of its class / those drawn.

    At random without replacement; one of each class at least, and of class 0, which counts nothing, only what is left.
    """
    numbers = torch.zeros(IGNORE_INDEX + 1, device=classes.device).scatter_add_(
        0, classes, torch.ones_like(classes, dtype=torch.float32)
    )
    if size >= len(classes):
        places = torch.arange(len(classes), device=classes.device)
        drawn = numbers
    else:
        luck = torch.rand(len(classes), device=classes.device)
        best = torch.zeros_like(numbers).scatter_reduce_(0, classes, luck, "amax")
        # The first of each class, then the others, then what does not count: within a class always the luckiest.
        order = (luck + (luck == best[classes])).masked_fill(classes == BACKGROUND, -1)
        places = order.topk(size, sorted=False).indices
        drawn = torch.zeros_like(numbers).scatter_add_(0, classes[places], torch.ones_like(luck[:size]))
    kept = classes[places]
    return places, (numbers / drawn)[kept].masked_fill(kept == BACKGROUND, 0)


def _of_length_1(rows: Tensor) -> Tensor:
    """In float32, where they had less."""
    return F.normalize(at_least_float32(rows), dim=1)


def _rows(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)

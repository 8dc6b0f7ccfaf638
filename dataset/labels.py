"""How a step sees the labels: a table from the label values of a mask to outputs of the network (SPEC 2)."""

from collections.abc import Collection, Sequence

import numpy as np

from tasks import Step
from utils.constants import IGNORE_INDEX

BACKGROUND = 0


def build_lut(
    order: Sequence[int],
    visible: Collection[int],
    *,
    hidden_to: int,
    class_of: Sequence[int],
    ignored_to: int = IGNORE_INDEX,
) -> np.ndarray:
    """Table (256,) uint8, to be applied with `map_labels`.

    A class of `visible` becomes its position in `order`, 255 becomes `ignored_to`, all others become `hidden_to`.
    `class_of`: class id, or 255, of each of the 256 label values of the mask.
    """
    output_of = np.full(256, hidden_to, dtype=np.uint8)
    for position, label in enumerate(order):
        if label in visible:
            output_of[label] = position
    output_of[IGNORE_INDEX] = ignored_to
    return output_of[np.asarray(class_of)]


def training_lut(step: Step, *, data_masking: str, class_of: Sequence[int], label_protocol: str = "plop") -> np.ndarray:
    """Table of the training and step validation sets; `data_masking` and `label_protocol` as in DataConfig."""
    visible = {*step.new_classes}
    if data_masking == "current+old":
        visible |= {*step.old_classes}
    whole_images = step.task.kind == "image"  # in which nothing is background
    hidden_to = IGNORE_INDEX if whole_images else BACKGROUND
    if data_masking == "new" and not whole_images:
        visible |= {BACKGROUND}
        hidden_to = IGNORE_INDEX
    ignored_to = BACKGROUND if label_protocol == "mib" else IGNORE_INDEX
    return build_lut(step.order, visible, hidden_to=hidden_to, class_of=class_of, ignored_to=ignored_to)


def seen_lut(
    step: Step, *, ignore_background: bool, class_of: Sequence[int], label_protocol: str = "plop"
) -> np.ndarray:
    """Table of the test set: all classes seen so far; with `ignore_background`, what is 0 becomes 255."""
    hidden_to = IGNORE_INDEX if label_protocol == "mib" or step.task.kind == "image" else BACKGROUND
    lut = build_lut(step.order, step.order, hidden_to=hidden_to, class_of=class_of)
    if ignore_background:
        lut[lut == BACKGROUND] = IGNORE_INDEX
    return lut


def map_labels(mask: np.ndarray, lut: np.ndarray) -> np.ndarray:
    """lut[mask], uint8 (H,W), by way of bytes: numpy would turn the mask into indices of eight bytes each first."""
    return np.frombuffer(bytearray(mask).translate(lut.tobytes()), dtype=np.uint8).reshape(mask.shape)

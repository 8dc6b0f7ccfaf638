"""Masks that are numbered in another way than they are read: what the label values of a whole split tell.

Every public data set exists in more than one numbering, and each is a picture of small numbers. A doubt is a function
of `values` (N, 256), bool, which label values occur in the mask of each image; it says what they look like, or None.
"""

import numpy as np

from utils.constants import IGNORE_INDEX

FEWEST = 20
"""Images from which on their label values tell something."""


def binary_doubt(values: np.ndarray) -> str | None:
    """A mask that was drawn in black and white: the class is ignored."""
    found = np.flatnonzero(values.any(axis=0)).tolist()
    if found in ([IGNORE_INDEX], [0, IGNORE_INDEX]):
        return f"the masks hold {' and '.join(map(str, found))} alone, and 255 is ignored: number the classes from 1"
    return None


def numbered_objects_doubt(values: np.ndarray) -> str | None:
    """Objects are numbered from 1 on in every image; classes are not."""
    things = values[:, 1:IGNORE_INDEX]
    things = things[things.any(axis=1)]
    counts = things.sum(axis=1)
    from_one_on = np.logical_and.accumulate(things, axis=1).sum(axis=1) == counts
    if len(things) >= FEWEST and from_one_on.all() and counts.max() > 1:
        return "the masks number the objects of each image, 1, 2 and so on, as those in SegmentationObject"
    return None


def one_less_doubt(values: np.ndarray, num_classes: int) -> str | None:
    """The classes from 0 on, and 255 for what is none of them, where 0 should be that, and the classes 1 to
    `num_classes` - 1."""
    found, last = values.any(axis=0), num_classes - 1
    often_ignored = values[:, IGNORE_INDEX].mean() > 0.5
    if len(values) >= FEWEST and often_ignored and found[last - 1] and not found[last]:
        return f"the masks hold 0 to {last - 1} and 255, one less than they should: 0 is no class, and 1 the first"
    return None


def train_ids_doubt(values: np.ndarray, num_classes: int) -> str | None:
    """Numbers of the `num_classes` trained classes, from 0 on, in the place of the 34 of Cityscapes."""
    found = np.flatnonzero(values[:, :IGNORE_INDEX].any(axis=0))
    if len(values) >= FEWEST and len(found) and found.max() < num_classes and values[:, IGNORE_INDEX].any():
        return f"the masks hold 0 to {found.max()} and 255, as those in labelTrainIds; the files of labelIds are needed"
    return None

"""ADE20K as in the scene parsing challenge of 2016 (SPEC 1, 2): 150 classes, and 0 for what is none of them."""

from pathlib import Path

from dataset.base import DatasetSpec, Sample
from dataset.conventions import binary_doubt, one_less_doubt
from dataset.folder import read_classes
from dataset.listing import pair_by_name, require_folder
from tasks import Facts
from utils.constants import IGNORE_INDEX
from utils.errors import UserError

CLASS_NAMES, PALETTE = read_classes(Path(__file__).parents[1] / "data" / "ade_classes.txt")

ARCHIVE = "ADEChallengeData2016"
SPLITS = {"train": "training", "val": "validation"}


def list_samples(root: Path, split: str) -> list[Sample]:
    """Samples of `split`, "train" or "val", by name. UserError where a folder lacks or is empty."""
    base = root / ARCHIVE if (root / ARCHIVE).is_dir() else root
    for full in (root / "images" / "ADE", root / "ADE20K_2021_17_01", root / "ADE20K_2016_07_26"):
        if full.is_dir():
            raise UserError(
                f"{full} is of the full ADE20K, whose masks name thousands of things by colours; the 150 classes are "
                f"in {ARCHIVE}: sh data/download_ade.sh fetches it"
            )
    images, masks = base / "images" / SPLITS[split], base / "annotations" / SPLITS[split]
    for folder in (images, masks):
        require_folder(folder, f"point --data_root at the folder that holds {ARCHIVE}/")
    return pair_by_name(images, masks)


SPEC = DatasetSpec(
    facts=Facts(
        dataset="ade",
        num_units=150,
        num_classes=151,
        published=("100-50", "100-10", "100-5", "50-50", "offline"),
        aliases=(("50", "50-50"),),
    ),
    folder="ade",
    class_names=CLASS_NAMES,
    palette=PALETTE,
    label_values=frozenset((*range(len(CLASS_NAMES)), IGNORE_INDEX)),
    list_samples=list_samples,
    doubts=lambda values: binary_doubt(values) or one_less_doubt(values, len(CLASS_NAMES)),
    labels_background=False,
    num_images=(20210, 2000),
)

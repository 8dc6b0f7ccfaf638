"""Cityscapes with fine labels, out of two zip files that only somebody with an account may fetch."""

from pathlib import Path

from tools.downloads.published import Archive
from tools.downloads.recipe import Counts, Recipe, unpack_pairs


def unpack_cityscapes(root: Path, *archives: Path) -> Counts:
    """Images and label ids of train and val; nothing of test, whose labels are not public."""
    pairs = r"(?P<kind>leftImg8bit|gtFine)/(?P<id>(?P<split>train|val)/[^/]+/[^/]+)_(leftImg8bit|gtFine_labelIds)\.png"
    return unpack_pairs(root, archives, pairs)


RECIPE = Recipe(
    archives=(
        Archive(
            key="GTFINE",
            name="gtFine_trainvaltest.zip",
            checksum="sha256:40461a50097844f400fef147ecaf58b18fd99e14e4917fb7c3bf9c0d87d95884",
        ),
        Archive(
            key="LEFTIMG8BIT",
            name="leftImg8bit_trainvaltest.zip",
            checksum="sha256:3ccff9ac1fa1d80a6a064407e589d747ed0657aac7dc495a4403ae1235a37525",
        ),
    ),
    unpack=unpack_cityscapes,
    contents=("leftImg8bit", "gtFine"),
    published={"train": 2975, "val": 500},
    unpacked_bytes=8.5e9,
    check_as="cityscapes_domain",
    by_hand="""Cityscapes wants an account, so its archives are to be fetched by hand:
  1. register at https://www.cityscapes-dataset.com/register/ and log in
  2. from https://www.cityscapes-dataset.com/downloads/ fetch
     gtFine_trainvaltest.zip (0.25 GB) and leftImg8bit_trainvaltest.zip (11.6 GB)
  3. put both, as they are, into {folder}
     (or name the folder that they are in: CITYSCAPES_ZIPS=DIR) and run the same command again""",
)

"""ADE20K, as in the scene parsing challenge of 2016."""

from pathlib import Path

from tools.downloads.published import Archive
from tools.downloads.recipe import Counts, Recipe, unpack_pairs

NAME = "ADEChallengeData2016"


def unpack_ade(root: Path, archive: Path) -> Counts:
    """Images, annotations and the texts beside them."""
    pairs = rf"{NAME}/(?P<kind>images|annotations)/(?P<id>(?P<split>training|validation)/[^/]+)\.(jpg|png)"
    return unpack_pairs(root, [archive], pairs, beside=rf"{NAME}/[^/]+\.txt")


RECIPE = Recipe(
    archives=(
        Archive(
            key="ADE",
            name=f"{NAME}.zip",
            checksum="sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
            sources=(f"http://data.csail.mit.edu/places/ADEchallenge/{NAME}.zip",),
        ),
    ),
    unpack=unpack_ade,
    contents=(NAME,),
    published={"training": 20210, "validation": 2000},
    unpacked_bytes=1.1e9,
    check_as="ade",
)

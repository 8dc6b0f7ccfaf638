"""ImageNet weights of bodies, by the names that tools/download_weights.py takes for them."""

from typing import NamedTuple

from tools.downloads.published import Archive

ZOO = "https://github.com/mapillary/inplace_abn#training-on-imagenet-1k"
"""Page of InPlace-ABN's authors with a link, and the md5, of each of their files."""
TORCHVISION = "https://download.pytorch.org/models/"


class Weights(NamedTuple):
    """A published file of weights, and the body that they are of."""

    archive: Archive
    backbone: str


def _of_inplace_abn(backbone: str, drive: str, md5: str, *mirrors: str) -> Weights:
    """`drive`: the id of the file. This form of address answers with the file, not with a page that asks first."""
    source = f"https://drive.usercontent.google.com/download?id={drive}&export=download&confirm=t"
    name = f"{backbone}_iabn_sync"
    archive = Archive(f"{name.upper()}", f"{name}.pth.tar", f"md5:{md5}", (source, *mirrors), ZOO)
    return Weights(archive, backbone)


def _of_torchvision(backbone: str, version: int, digits: str) -> Weights:
    """`digits`: the first eight of the sha256, which torchvision writes into the name of the file."""
    name = f"{backbone}-{digits}.pth"
    source = TORCHVISION + name
    return Weights(
        Archive(f"{backbone.upper()}_V{version}", name, f"sha256-prefix:{digits}", (source,), source), backbone
    )


WEIGHTS = {
    "resnet101_iabn_sync": _of_inplace_abn(
        "resnet101",
        "1oFVSIUYAxa_uNDq2OLkbhyiFmKwnYzpt",
        "1552ae0f3d610108df702135f56bd27b",
        "https://github.com/arthurdouillard/CVPR2021_PLOP/releases/download/v1.0/resnet101_iabn_sync.pth.tar",
        "https://github.com/Ze-Yang/LGKD/releases/download/v1.0/resnet101_iabn_sync.pth.tar",
    ),
    "resnet50_iabn_sync": _of_inplace_abn(
        "resnet50", "1N7kjWrnUbD_aBOUNi9ZLGnI3E_1ATH8U", "2522ca639f7fdfd7c0089ba1f5f6c2e8"
    ),
    "resnet50_v1": _of_torchvision("resnet50", 1, "0676ba61"),
    "resnet50_v2": _of_torchvision("resnet50", 2, "11ad3fa6"),
    "resnet101_v1": _of_torchvision("resnet101", 1, "63fe2227"),
    "resnet101_v2": _of_torchvision("resnet101", 2, "cd907fc2"),
    "resnet152_v1": _of_torchvision("resnet152", 1, "394f9c45"),
    "resnet152_v2": _of_torchvision("resnet152", 2, "f82ba261"),
}
DEFAULT = "resnet101_iabn_sync"
"""What the published numbers started from."""

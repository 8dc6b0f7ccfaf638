"""The class index: right, kept, noticed when the data change, and checked while it is built."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import index as index_module
from dataset.base import Sample
from dataset.index import Index, load_index, map_in_threads, scan_masks
from dataset.voc import SPEC, list_samples
from tests.helpers import run_processes
from utils.errors import UserError


def load(root: Path) -> np.ndarray:
    return load_both(root).values


def load_both(root: Path) -> Index:
    return load_index(list_samples(root, "train"), root=root, name="voc-train", label_values=SPEC.label_values)


def kept_file(root: Path) -> Path:
    return root / ".index" / "voc-train.npz"


def expected(voc) -> list[set[int]]:
    return [voc.labels(name) for name in voc.train]


def found(index: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(row).tolist()) for row in index]


def rewrite(path: Path, labels: np.ndarray) -> None:
    """Another content, later by a hundredth of a second; of the same size where the one before came from here too."""
    later = path.stat().st_mtime_ns + 10_000_000
    Image.fromarray(labels).save(path, compress_level=0)
    os.utime(path, ns=(later, later))


def test_index_is_a_walk_over_the_pixels(voc):
    index = load(voc.root)
    assert (index.shape, index.dtype) == ((len(voc.train), 256), bool)
    assert found(index) == expected(voc)


def test_sizes_are_those_of_the_masks(voc):
    for _ in ("scanned", "read"):
        sizes = load_both(voc.root).sizes
        assert [tuple(size) for size in sizes] == [voc.masks[name].shape for name in voc.train]


def test_second_load_reads_the_file_and_no_mask(voc):
    first = load(voc.root)
    written = kept_file(voc.root).stat().st_mtime_ns
    # Other bytes behind the same size and time: only a scan could see them.
    path = voc.root / "SegmentationClassAug" / f"{voc.train[0]}.png"
    data, status = path.read_bytes(), path.stat()
    path.write_bytes(b"x" * len(data))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    np.testing.assert_array_equal(load(voc.root), first)
    assert kept_file(voc.root).stat().st_mtime_ns == written


def test_a_rewritten_mask_is_noticed(voc):
    name = voc.train[3]
    path = voc.root / "SegmentationClassAug" / f"{name}.png"
    rewrite(path, voc.masks[name])
    load(voc.root)
    size = path.stat().st_size
    voc.masks[name][:] = 7
    rewrite(path, voc.masks[name])
    assert path.stat().st_size == size
    assert found(load(voc.root)) == expected(voc)


def test_a_changed_list_is_noticed(voc):
    load(voc.root)
    path = voc.root / "list" / "train_aug.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[::-1]))
    assert found(load(voc.root)) == expected(voc)[::-1]
    path.write_text("\n".join(lines[2:]))
    assert found(load(voc.root)) == expected(voc)[2:]


@pytest.mark.parametrize(
    "damage", ["cut", "text", "empty", "other array", "bare array", "other shape", "strange label", "no type", "pipe"]
)
def test_a_broken_index_is_built_again(voc, damage: str):
    load(voc.root)
    path = kept_file(voc.root)
    with np.load(path) as file:
        parts = dict(file)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif damage == "bare array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "other shape":
        np.savez(path, **parts | {"bits": parts["bits"][1:]})
    elif damage == "strange label":
        np.savez(path, **parts | {"bits": parts["bits"] | 1 << 4})
    elif damage == "no type":
        np.savez(path, **parts | {"bits": parts["bits"].astype(float)})
    elif damage == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif damage == "other array":
        np.savez(path, something=np.zeros(3))
    else:
        path.write_bytes(b"" if damage == "empty" else b"hello")
    assert found(load(voc.root)) == expected(voc)
    before = path.stat().st_mtime_ns
    load(voc.root)
    assert path.stat().st_mtime_ns == before


def test_a_name_need_not_be_utf8(voc):
    name = os.fsdecode(b"caf\xe9")
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClassAug", "png")):
        (voc.root / folder / f"{voc.train[0]}.{suffix}").rename(voc.root / folder / f"{name}.{suffix}")
    samples = [Sample(voc.root / f"JPEGImages/{name}.jpg", voc.root / f"SegmentationClassAug/{name}.png")]
    index = load_index(samples, root=voc.root, name="voc-train", label_values=SPEC.label_values)
    assert found(index.values) == expected(voc)[:1]


def test_without_a_writable_folder_the_cache_serves(voc, tmp_path: Path):
    # Not permissions: root, who may run the tests, can write everywhere.
    (voc.root / ".index").write_text("in the way")
    first = load(voc.root)
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["voc-train.npz"]
    before = files[0].stat().st_mtime_ns
    np.testing.assert_array_equal(load(voc.root), first)
    assert files[0].stat().st_mtime_ns == before


def test_several_threads_find_the_same(voc):
    samples = list_samples(voc.root, "train")
    one, three = (scan_masks(samples, SPEC.label_values, title="test", num_threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one.values, three.values)
    np.testing.assert_array_equal(one.sizes, three.sizes)


def test_nobody_waits_for_the_rest_of_a_scan_that_failed(voc):
    samples = list_samples(voc.root, "train")[:1] * 2000
    start = time.monotonic()

    def work(sample: Sample) -> None:
        if time.monotonic() > start + 0.1:
            raise UserError("enough")
        time.sleep(0.01)

    with pytest.raises(UserError, match="enough"):
        map_in_threads(work, samples, "test", num_threads=2)
    assert time.monotonic() - start < 3


def refuse(voc, text: str) -> None:
    with pytest.raises(UserError, match=text) as caught:
        load(voc.root)
    assert "\n" not in str(caught.value)
    assert not kept_file(voc.root).exists()


def test_files_are_checked_by_the_scan(voc):
    name = voc.train[5]
    image, mask = voc.root / "JPEGImages" / f"{name}.jpg", voc.root / "SegmentationClassAug" / f"{name}.png"
    labels = voc.masks[name]
    rewrite(mask, labels + (labels == 0) * np.uint8(37))
    refuse(voc, rf"mask .*{name}\.png holds label 37; allowed: 0\.\.20, 255$")
    rewrite(mask, np.stack([labels] * 3, axis=2))
    refuse(voc, rf"mask .*{name}\.png has mode RGB")
    rewrite(mask, labels[1:])
    height, width = labels.shape
    refuse(voc, rf"{name}\.png is {width} x {height - 1} pixels and its image .*{name}\.jpg {width} x {height};")
    rewrite(mask, labels)
    image.write_bytes(b"no image")
    refuse(voc, rf"image .*{name}\.jpg cannot be read")
    image.unlink()
    refuse(voc, rf"image .*{name}\.jpg cannot be read \(No such file or directory\)")


def _load_in_group(rank: int, folder: Path) -> list[list[bool]]:
    if rank == 1:
        index_module.scan_masks = None  # this process may only read
    return load(folder / "voc").tolist()


def test_one_process_builds_and_the_others_read(voc, tmp_path: Path):
    for values in run_processes(_load_in_group, tmp_path):
        assert found(np.array(values)) == expected(voc)

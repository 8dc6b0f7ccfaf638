"""Kinds of bad input, as data: what is wrong, the command, and the line that the run ends with.

A row is KIND, COMMAND, LINE and, where files have to be spoilt for it, what does that. COMMAND is typed beside the
options of the tiny run (tests/workplace.py), of which steps 0 and 1 are finished, in `checkpoints` and `results`. Paths
are relative to the folder of the run; the data set lies in `voc`. ` ... ` in LINE stands for anything.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from modules.authors_names import to_authors
from tests.workplace import Workplace, load

Spoil = Callable[[Workplace], object]
FIRST, SECOND = "checkpoints/15-1-voc_tiny_0.pth", "checkpoints/15-1-voc_tiny_1.pth"


class BadInput(NamedTuple):
    """One kind."""

    kind: str
    command: str
    line: str
    spoil: Spoil | None = None
    without: str = ""
    """An option of the tiny run that is not given."""


class Hostile:
    """Unpickled, it leaves the file `trace` behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def remove(*names: str) -> Spoil:
    """Without these files."""
    return lambda workplace: [(workplace.folder / name).unlink() for name in names]


def put(name: str, content: str | bytes) -> Spoil:
    """With this file."""
    data = content.encode() if isinstance(content, str) else content

    def spoil(workplace: Workplace) -> None:
        path = workplace.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    return spoil


def first(workplace: Workplace, kind: str) -> Path:
    """A file that step 0 trains on: its image or its mask."""
    line = (workplace.data / "list" / "train_aug.txt").read_text().splitlines()[0].split()
    return workplace.data / line[kind == "mask"].lstrip("/")


def overwrite(kind: str, content: bytes) -> Spoil:
    """With this in the place of an image or a mask."""
    return lambda workplace: first(workplace, kind).write_bytes(content)


def labels(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """With a mask of which `change` has made another one."""

    def spoil(workplace: Workplace) -> None:
        path = first(workplace, "mask")
        Image.fromarray(change(np.array(Image.open(path)))).save(path, format="PNG")

    return spoil


def one_strange_label(mask: np.ndarray) -> np.ndarray:
    mask[3, 4] = 77
    return mask


def as_jpeg(workplace: Workplace) -> None:
    path = first(workplace, "mask")
    Image.open(path).convert("L").save(path, format="JPEG")


def cut_all_images(workplace: Workplace) -> None:
    """Only decoding them tells."""
    for path in (workplace.data / "JPEGImages").iterdir():
        path.write_bytes(path.read_bytes()[:1000])


def lines(change: Callable[[list[str]], list[str]]) -> Spoil:
    """With another list of training images."""

    def spoil(workplace: Workplace) -> None:
        path = workplace.data / "list" / "train_aug.txt"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return spoil


def without_class_16(workplace: Workplace) -> None:
    def shows(line: str) -> bool:
        return bool((np.array(Image.open(workplace.data / line.split()[1].lstrip("/"))) == 16).any())

    lines(lambda all_lines: [line for line in all_lines if not shows(line)])(workplace)
    remove(SECOND)(workplace)


def animation(workplace: Workplace) -> None:
    frames = [Image.new("L", (64, 64), shade) for shade in (0, 200)]
    frames[0].save(first(workplace, "image"), format="GIF", save_all=True, append_images=frames[1:])


def floats(workplace: Workplace) -> None:
    Image.new("F", (64, 64)).save(first(workplace, "image"), format="TIFF")


def turned(workplace: Workplace) -> None:
    path, exif = first(workplace, "mask"), Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)


def leak(workplace: Workplace) -> None:
    line = (workplace.data / "list" / "train_aug.txt").read_text().splitlines(keepends=True)[0]
    with (workplace.data / "list" / "val.txt").open("a") as file:
        file.write(line)


def link(workplace: Workplace) -> None:
    line = (workplace.data / "list" / "val.txt").read_text().split()[0]
    path = workplace.data / line.lstrip("/")
    path.unlink()
    path.symlink_to(first(workplace, "image"))


def all_masks(change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """With each mask changed."""

    def spoil(workplace: Workplace) -> None:
        for path in (workplace.data / "SegmentationClassAug").iterdir():
            Image.fromarray(change(np.array(Image.open(path)))).save(path)

    return spoil


def as_objects(mask: np.ndarray) -> np.ndarray:
    shown = [value for value in np.unique(mask).tolist() if value not in (0, 255)]
    return np.select(
        [mask == value for value in shown], range(1, len(shown) + 1), np.where(mask == 255, 255, 0)
    ).astype(np.uint8)


numbered = all_masks(as_objects)
black_and_white = all_masks(lambda mask: np.where(mask == 0, 0, 255).astype(np.uint8))


def not_utf8(workplace: Workplace) -> None:
    (workplace.data / "list" / "train_aug.txt").write_bytes(b"\xff\xfe\x00")


def huge_image(workplace: Workplace) -> None:
    """Decoded, it would take gigabytes; the file is its header."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 30_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    overwrite("image", png + struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT")))(workplace)


def checkpoint(change: Callable[[dict], object], name: str = FIRST) -> Spoil:
    """With a checkpoint of which `change` has made another one, in place."""

    def spoil(workplace: Workplace) -> None:
        content = load(workplace.folder / name)
        change(content)
        torch.save(content, workplace.folder / name)

    return spoil


def replaced(content: object, name: str = FIRST) -> Spoil:
    """With a checkpoint that holds something else."""
    return lambda workplace: torch.save(content, workplace.folder / name)


def bytes_of(change: Callable[[bytes], bytes], name: str = FIRST) -> Spoil:
    """With a checkpoint whose bytes were changed."""

    def spoil(workplace: Workplace) -> None:
        path = workplace.folder / name
        path.write_bytes(change(path.read_bytes()))

    return spoil


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def foreign(content: dict) -> None:
    """As a file of the authors' code, without a word on what it is of."""
    content["model_state"] = to_authors(content["model_state"])
    for name in ("schema", "method_state", "trainer_state"):
        del content[name]


def half_done(content: dict) -> None:
    """As a step that was stopped after an epoch."""
    content["trainer_state"]["finished"] = False
    content["epoch"] = 1


def other_scenario(content: dict) -> None:
    content["trainer_state"]["identity"]["scenario"] = "disjoint"


def other_images(content: dict) -> None:
    half_done(content)
    content["trainer_state"]["images"] = "others"


def moved_bias(content: dict) -> None:
    content["model_state"]["classifiers.0.bias"] += 1


def hostile(workplace: Workplace) -> None:
    content = {"model_state": Hostile(workplace.folder / "trace")}
    torch.save(content, workplace.folder / "evil.pth")


def in_order(*spoils: Spoil) -> Spoil:
    """One after the other."""
    return lambda workplace: [spoil(workplace) for spoil in spoils]


def weights(content: object) -> Spoil:
    """With a file of ImageNet weights."""
    return lambda workplace: torch.save(content, workplace.folder / "weights.pth")


BARE = {"classifier.weight": torch.zeros(3), "module.mod1.conv1.weight": torch.zeros(8, 3, 7, 7)}
WIDER = {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}
ABSURD = {"model_state": {"classifiers.0.weight": torch.zeros(1).expand(1 << 40)}}

BAD_INPUT = [
    # The command line.
    BadInput("an option that is not there", "--overlaped", "unknown option --overlaped; the nearest is --overlap ... "),
    BadInput("a word too many", "15-1", "unexpected argument '15-1'; an option starts with --"),
    BadInput("a number that is none", "--batch_size four", "argument --batch_size: invalid int value: 'four' ... "),
    BadInput("a task that does not divide", "--task 15-2", "--task 15-2: ... possible: 15-1, 15-5 ... "),
    BadInput("a task that is none", "--task many", "--task many: ... "),
    BadInput("a data set that is none", "--dataset coco", "--dataset coco: choose from voc, ... "),
    BadInput("a method that is none", "--method SDR2", "--method SDR2: choose from FT, ... "),
    BadInput("a step that is not there", "--step 7", "--step 7: voc 15-1 has steps 0 to 5; or say all"),
    BadInput("steps in disorder", "--step 1 0", "--step 1 0: name each step once, in ascending order"),
    BadInput("another method's option", "--method FT --loss_kd 1", "--loss_kd is an option of ... not of --method FT"),
    BadInput("options that contradict", "--scenario disjoint", "--overlap and --scenario disjoint contradict ... "),
    BadInput("two validation sets", "--cross_val --val_on_trainset", "--cross_val and --val_on_trainset ... give one"),
    BadInput("two orders of classes", "--class_order order.txt", "--task and --class_order both ... give one"),
    BadInput("a crop that is too small", "--crop_size 8", "--crop_size 8: at least 32"),
    BadInput("no batch", "--batch_size 0", "--batch_size 0: at least 1"),
    BadInput("no epoch", "--epochs 0", "--epochs 0: above 0"),
    BadInput("a rate below zero", "--lr -1", "--lr -1.0: above 0"),
    BadInput("a rate of zero", "--lr 0", "--lr 0.0: above 0"),
    BadInput("a rate that is no number", "--lr 0.1 nan", "argument --lr: 'nan' is no finite number"),
    BadInput("a rate without end", "--lr inf", "argument --lr: 'inf' is no finite number"),
    BadInput("a rate too large to write", "--lr 1e400", "argument --lr: '1e400' is no finite number"),
    BadInput("a momentum of one", "--momentum 1", "--momentum 1.0: from 0 to below 1"),
    BadInput("a momentum below zero", "--momentum -0.1", "--momentum -0.1: at least 0"),
    BadInput("a weight decay below zero", "--weight_decay -1", "--weight_decay -1.0: at least 0"),
    BadInput("a weight decay that is no number", "--weight_decay nan", "argument --weight_decay: 'nan' is no ... "),
    BadInput("more epochs than there is time", "--epochs 99999999999", "--epochs 99999999999: at most 2147483647"),
    BadInput("a batch of all images there are", "--batch_size 99999999999", "--batch_size 99999999999: at most ... "),
    BadInput("a crop larger than any image", "--crop_size 100000", "--crop_size 100000: at most 8192"),
    BadInput("loader processes below zero", "--num_workers -1", "--num_workers -1: at least 0"),
    BadInput("too many loader processes", "--num_workers 100000", "--num_workers 100000: at most 1024"),
    BadInput("a seed below zero", "--random_seed -1", "--random_seed -1: at least 0"),
    BadInput("a seed that is no whole number", "--random_seed 1.5", "argument --random_seed: invalid int value: '1.5'"),
    BadInput("no interval of validations", "--val_interval 0", "--val_interval 0: at least 1"),
    BadInput("no interval of figures", "--print_interval 0", "--print_interval 0: at least 1"),
    BadInput("an interval of checkpoints below zero", "--ckpt_interval -1", "--ckpt_interval -1: at least 0"),
    BadInput("a warm-up below zero", "--warmup -1", "--warmup -1: at least 0"),
    BadInput("a warm-up longer than the step", "--warmup_share 2", "--warmup_share 2.0: from 0 to 1"),
    BadInput("a power that is no number", "--lr_power nan", "argument --lr_power: 'nan' is no finite number"),
    BadInput("a schedule that is none", "--lr_policy cosine", "argument --lr_policy: invalid choice: 'cosine' ... "),
    BadInput("no steps of a schedule", "--lr_decay_step 0", "--lr_decay_step 0: at least 1"),
    BadInput("a rate of old classifiers below zero", "--lr_old -1", "--lr_old -1.0: at least 0"),
    BadInput("a weight of a loss below zero", "--loss_kd -1", "--loss_kd -1.0: at least 0"),
    BadInput("a weight of a loss that is no number", "--loss_kd nan", "argument --loss_kd: 'nan' is no finite number"),
    BadInput("a window of nothing", "--pool_sizes 4 0", "--pool_sizes 4 0: ... "),
    BadInput("one factor of two", "--spatial_factors 1", "--spatial_factors 1.0: two numbers, ... "),
    BadInput("three branches", "--branches 3", "argument --branches: invalid choice: 3 ... "),
    BadInput("a stem of no channels", "--width 0", "--width 0: at least 4"),
    BadInput("a head of no channels", "--head_channels 0", "--head_channels 0: at least 4"),
    BadInput("a body that is none", "--backbone resnet27", "--backbone resnet27: choose from ... "),
    BadInput("a head that is none", "--head sumo", "argument --head: invalid choice: 'sumo' ... "),
    BadInput("a norm that is none", "--norm_act batch", "argument --norm_act: invalid choice: 'batch' ... "),
    BadInput("a stride that is none", "--output_stride 7", "argument --output_stride: invalid choice: 7 ... "),
    BadInput("a precision that is none", "--opt_level O3", "argument --opt_level: invalid choice: 'O3' ... "),
    BadInput("pictures below zero", "--sample_num -1", "--sample_num -1: at least 0"),
    BadInput("a trace below zero", "--profile -1", "--profile -1: at least 0"),
    BadInput("bad batches below zero", "--skip_bad_batches -1", "--skip_bad_batches -1: at least 0"),
    BadInput("a memory below zero", "--method SSUL-M --mem_size -1", "--mem_size -1: at least 0"),
    BadInput("no part of a batch", "--accumulate 0", "--accumulate 0: at least 1"),
    BadInput(
        "parts that do not divide the batch",
        "--name new --step 0 --accumulate 3",
        "--accumulate 3: choose a number that divides --batch_size ... ",
    ),
    BadInput("a name that leaves the folder", "--name ../evil", "--name ../evil: a word that every system takes ... "),
    BadInput("a name that is a folder", "--name ..", "--name ..: a word that every system takes for a part ... "),
    BadInput("a name with a folder in it", "--name a/b", "--name a/b: a word that every system takes ... "),
    BadInput("an empty name", "--name ''", "--name : a word that every system takes for a part of a file name ... "),
    BadInput("a name that Windows keeps for itself", "--name nul", "--name nul: a word that every system takes ... "),
    BadInput("a name that is a pattern", "--name 'a*'", "--name a*: a word that every system takes ... "),
    BadInput("a date that leaves the folder", "--date ../2026", "--date ../2026: a word that every system takes ... "),
    BadInput("an empty folder of checkpoints", "--checkpoint ''", "argument --checkpoint: '' is no path; ... "),
    BadInput("an empty folder of data", "--data_root ''", "argument --data_root: '' is no path; name one, or ... "),
    BadInput("an empty file to resume", "--step 0 --ckpt ''", "argument --ckpt: '' is no path; name one, or ... "),
    BadInput(
        "a file as folder of checkpoints", "--checkpoint voc/list/val.txt", "--checkpoint ... a folder is needed, ... "
    ),
    BadInput("a file as folder of data", "--data_root voc/list/val.txt", "no folder ... ; point --data_root at ... "),
    BadInput("no word for a task", "--task ''", "--task : ... "),
    BadInput("a task of no classes", "--task 15-0", "--task 15-0: ... "),
    BadInput("a task that starts with none", "--task 0-1", "--task 0-1: ... "),
    BadInput("a step below zero", "--step -1", "--step -1: voc 15-1 has steps 0 to 5; or say all"),
    BadInput("a step twice", "--step 0 0", "--step 0 0: name each step once, in ascending order"),
    BadInput("a folder as class order", "--class_order voc", "--class_order voc cannot be read ... ", None, "--task"),
    BadInput("no time between saves", "--save_minutes 0", "--save_minutes 0.0: above 0"),
    BadInput("one file for two steps", f"--step 0 1 --ckpt {FIRST}", "--ckpt ... is the checkpoint of one step; ... "),
    BadInput(
        "one image to a batch", "--step 0 --name new --batch_size 1", "--batch_size 1: ... two images ... --fix_bn"
    ),
    BadInput(
        "a batch larger than the data",
        "--step 0 --name new --batch_size 48",
        "--batch_size 48: ... more than the 47 training images of step 0; give --batch_size 47 or less",
    ),
    BadInput(
        "a batch larger than a later step",
        "--step 0 1 --name new --batch_size 10",
        "--batch_size 10: ... more than the 9 training images of step 1; give --batch_size 9 or less",
    ),
    # The data.
    BadInput("no folder of data", "--data_root none", "no folder ... none/JPEGImages; point --data_root at ... "),
    BadInput("no list", "--name new", "no list of val images in ... /voc: ... ", remove("voc/list/val.txt")),
    BadInput(
        "a list with three columns",
        "--name new",
        "list/train_aug.txt, line 1: 3 columns; a line is IMAGE MASK, ... ",
        lines(lambda all_lines: ["a b c\n", *all_lines]),
    ),
    BadInput("an empty list", "--name new", "list/train_aug.txt names no image; ... ", lines(lambda all_lines: [])),
    BadInput(
        "a missing mask",
        "--name new",
        "mask of the image ... cannot be read (No such file ... ",
        lambda w: first(w, "mask").unlink(),
    ),
    BadInput(
        "a mask that is no image",
        "--name new",
        "mask ... cannot be read (a text); put the mask there, as PNG, or take it out",
        overwrite("mask", b"?"),
    ),
    BadInput(
        "an image that is none",
        "--name new",
        "image ... cannot be read (a text); put the picture itself there, as PNG or JPEG, or take it out",
        overwrite("image", b"?"),
    ),
    BadInput("images that break off", "--name new", "image ... cannot be read ... restore the file", cut_all_images),
    BadInput(
        "images that break off in a loader process",
        "--name new --num_workers 1",
        "image ... JPEGImages ... cannot be read ... restore the file",
        cut_all_images,
    ),
    BadInput("an image of 1.2 billion pixels", "--name new", "image ... 40000 x 30000 pixels ... ", huge_image),
    BadInput(
        "a mask of another size",
        "--name new",
        "mask ... is 64 x 60 pixels and its image ... ",
        labels(lambda m: m[:60]),
    ),
    BadInput(
        "a label out of range", "--name new", "mask ... holds label 77; allowed: 0..20, 255", labels(one_strange_label)
    ),
    BadInput(
        "a mask of colours",
        "--name new",
        "mask ... has mode RGB; ... python tools/colours_to_labels.py turns colours into them",
        labels(lambda m: np.stack([m] * 3, axis=2)),
    ),
    BadInput(
        "a photo of a phone",
        "--name new",
        "image ... cannot be read (a HEIC photo); put the picture itself there, as PNG or JPEG, or take it out",
        overwrite("image", b"\0\0\0\x20ftypheic" + bytes(64)),
    ),
    BadInput(
        "a page of the web as an image",
        "--name new",
        "image ... cannot be read (a page of the web, ... ",
        overwrite("image", b"<!DOCTYPE html><title>404</title>"),
    ),
    BadInput(
        "an empty image", "--name new", "image ... cannot be read (empty, or zeros alone) ... ", overwrite("image", b"")
    ),
    BadInput("an animation", "--name new", "image ... holds 2 pictures, ... ; save the one to use", animation),
    BadInput("a picture of floats", "--name new", "image ... has mode F; save it with 8 bits ... ", floats),
    BadInput(
        "a mask that is marked as turned", "--name new", "mask ... is marked as turned (orientation 6); ... ", turned
    ),
    BadInput(
        "an image that is listed twice",
        "--name new",
        "image ... is listed more than once in train",
        lines(lambda all_lines: [all_lines[0], *all_lines]),
    ),
    BadInput(
        "a test image to train on", "--name new", "... is listed for training and for validation; take it ... ", leak
    ),
    BadInput(
        "a test image that is a link", "--name new", "... and the training image ... are the same file; ... ", link
    ),
    BadInput(
        "a list of the classification challenge",
        "--name new",
        "list/train_aug.txt, line 1: '2007_000032  1' says whether a class is there; give a list of segmentation",
        lines(lambda all_lines: ["2007_000032  1\n", *all_lines]),
    ),
    BadInput(
        "masks that number objects", "--name new", "... train: the masks number the objects of each ... ", numbered
    ),
    BadInput("masks in black and white", "--name new", "... the masks hold 0 and 255 alone, ... ", black_and_white),
    BadInput(
        "a list with control characters",
        "--name new",
        "list/train_aug.txt, line 1: the control character '\\x1b'; ... ",
        lines(lambda all_lines: ["\x1b[2J\n", *all_lines]),
    ),
    BadInput("a list that is no text", "--name new", "list/train_aug.txt cannot be read (no text); ... ", not_utf8),
    BadInput("a mask as JPEG", "--name new", "mask ... is a JPEG file, which may change labels; ... ", as_jpeg),
    BadInput(
        "a step without images", "--step 1", "... step 1 (classes 16) is a step with no image in ... ", without_class_16
    ),
    # Checkpoints.
    BadInput(
        "no step before",
        "--step 1",
        "the checkpoint of step 0 is missing: ... train that step first ... ",
        remove(FIRST, SECOND),
    ),
    BadInput("nothing to test", "--step 2 --test", "the checkpoint of step 2 is missing: ... "),
    BadInput(
        "no such file to build on", "--step 2 --step_ckpt no.pth", "the checkpoint of step 1 is missing: no.pth; ... "
    ),
    BadInput("the file of another step", f"--step 2 --step_ckpt {FIRST}", f"{FIRST} is of another run: it has ... "),
    BadInput(
        "the file of another task", f"--task 19-1 --step 1 --step_ckpt {FIRST}", "... it has task ... correct --task"
    ),
    BadInput(
        "another order of classes",
        f"--class_order order.txt --step 0 --test --ckpt {FIRST}",
        "... is of another run: it has task ... correct --task",
        put("order.txt", ", ".join(map(str, [*range(2, 16), 16])) + "\n1\n17\n18\n19\n20\n"),
        "--task",
    ),
    BadInput(
        "overlap forgotten at step 0",
        "--step 0 --no_overlap",
        "... it has scenario overlapped, this run disjoint; ... ",
    ),
    BadInput(
        "overlap forgotten at the step before",
        "--step 1",
        f"{FIRST} is of another run: it has scenario disjoint, this run overlapped; ... correct --scenario",
        in_order(remove(SECOND), checkpoint(other_scenario)),
    ),
    BadInput(
        "another backbone", "--step 0 --backbone resnet50", "... it has backbone resnet14, this run resnet50; ... "
    ),
    BadInput("one branch instead of two", "--step 0 --method FT", "... it has branches 2, this run 1; ... "),
    *(
        BadInput(
            f"a foreign file with {options}",
            f"--step 0 --test --ckpt {FIRST} {options}",
            f"{FIRST} ... {line}",
            checkpoint(foreign),
        )
        for options, line in {
            "--width 16": "is of another network: ... check ... --width ... ",
            "--backbone resnet50": "is of another network: ... check ... --backbone ... ",
            "--method FT": "it holds a two-branch network, and --branches is 1: use the method that it is of",
            "--task 10-1": "has classifiers of [16] classes; step 0 of voc 10-1 needs [11]: ... ",
        }.items()
    ),
    BadInput("a foreign file to resume", "--step 0", "... is of another code base: ... ", checkpoint(foreign)),
    BadInput(
        "a file cut off",
        "--step 0",
        "... is damaged: a checksum in it is wrong, or its end is missing; ... ",
        bytes_of(lambda c: c[: len(c) // 2]),
    ),
    BadInput(
        "a file with one bit flipped",
        "--step 0",
        "... is damaged: a checksum in it is wrong, or its end is missing; ... ",
        bytes_of(flipped),
    ),
    BadInput(
        "something else as a checkpoint",
        "--step 0",
        "... is damaged, or holds more than tensors ... ",
        put(FIRST, "weights"),
    ),
    BadInput(
        "a checkpoint without weights", "--step 0", "... has no weights under model_state", replaced({"weights": {}})
    ),
    BadInput(
        "weights that are NaN",
        "--step 0",
        "... is of no use: 16 values of classifiers.0.bias are NaN or infinite; ... ",
        checkpoint(lambda content: content["model_state"]["classifiers.0.bias"].fill_(float("nan"))),
    ),
    BadInput(
        "a checkpoint of a later version",
        "--step 0",
        f"{FIRST} has schema 3; this version reads 1 and 2: use the version that wrote it",
        checkpoint(lambda content: content.update(schema=3)),
    ),
    BadInput(
        "a state of the method that is none",
        "--step 1",
        f"{FIRST} was changed: its method_state is no state dict",
        in_order(remove(SECOND), checkpoint(lambda content: content.update(method_state=[1]))),
    ),
    BadInput("a shape that no file can hold", "--step 0", "... claims the shape (1099511627776,)", replaced(ABSURD)),
    BadInput("code in a checkpoint", "--step 0 --test --ckpt evil.pth", "evil.pth ... could run code: ... ", hostile),
    BadInput("code in the step before", "--step 2 --step_ckpt evil.pth", "evil.pth ... could run code: ... ", hostile),
    BadInput(
        "code in ImageNet weights",
        "--name new --pretrained evil.pth",
        "evil.pth ... could run code: ... ",
        hostile,
        "--no_pretrained",
    ),
    BadInput(
        "other options in the middle of a step",
        "--step 0 --lr 0.1 --momentum 0.8",
        "... half-done step 0 with other options: --lr 0.002 then and 0.1 now, --momentum 0.9 then and 0.8 now; ... ",
        checkpoint(half_done),
    ),
    BadInput(
        "other options for a finished step",
        "--step 1 --loss_kd 7",
        "... finished step 1 with other options: --loss_kd 100.0 then and 7.0 now; ... ",
    ),
    BadInput(
        "other images in the middle of a step",
        "--step 0",
        "... with other training images ... ",
        checkpoint(other_images),
    ),
    BadInput(
        "a half-done step to build on",
        "--step 1",
        f"{FIRST} is a half-done step 0, after 1 epochs; resume it first: --step 0",
        in_order(remove(SECOND), checkpoint(half_done)),
    ),
    BadInput(
        "a half-done step to share",
        f"--step 0 1 --name new --step_ckpt {FIRST}",
        f"{FIRST} is a half-done step 0, ... ",
        checkpoint(half_done),
    ),
    BadInput("a half-done step to test", "--step 0 --test", "... is a half-done step 0, ... ", checkpoint(half_done)),
    BadInput(
        "another step 0 than step 1 was built on",
        "--step 0 1",
        f"{SECOND} was built on another step 0 than {FIRST} holds now; ... ",
        checkpoint(moved_bias),
    ),
    # ImageNet weights.
    BadInput(
        "no ImageNet weights",
        "--name new",
        "no weights for resnet14 of width 8 in pretrained/: ... ",
        None,
        "--no_pretrained",
    ),
    BadInput(
        "no such weights",
        "--name new --pretrained no.pth",
        "--pretrained no.pth: no such file",
        None,
        "--no_pretrained",
    ),
    *(
        BadInput(
            kind, "--name new --pretrained weights.pth", f"weights.pth {line}", weights(content), "--no_pretrained"
        )
        for kind, content, line in (
            ("weights of another network", BARE, "does not fit --backbone resnet14 --width 8: ... "),
            ("weights without names", {"state_dict": "none"}, "holds no weights by name; ... "),
            (
                "weights of no ResNet",
                {"features.0.weight": torch.zeros(3)},
                "... features.0.weight ... no part ... ",
            ),
            ("weights of a wider body of torchvision", WIDER, "does not fit --backbone resnet14 --width 8: ... "),
        )
    ),
    BadInput(
        "weights that are a text",
        "--name new --pretrained weights.pth",
        "weights.pth is damaged, or holds more than tensors ... ",
        put("weights.pth", "weights"),
        "--no_pretrained",
    ),
    # Results.
    BadInput(
        "the table of another task",
        "--step 0 --test",
        "... holds 2 classes and this run has 21: ... ",
        put("results/2022-01-01_voc_15-1_tiny.csv", "0,0.5,x,0.5\n"),
    ),
    BadInput(
        "a table that is none",
        "--step 0 --test",
        "... line 1: ... a row is step,IoU_0,...,mIoU",
        put("results/2022-01-01_voc_15-1_tiny.csv", "IoU of all classes\n"),
    ),
    BadInput(
        "a journal that is none",
        "--step 0 --test",
        "results/2022-01-01_voc_15-1_tiny.jsonl, line 1: Expecting value ...; move the file away, and ... ",
        put("results/2022-01-01_voc_15-1_tiny.jsonl", "a diary\n"),
    ),
    *(
        BadInput(
            f"a file in the way of the folder of {option}",
            f"--step 0 --test --ckpt {FIRST} {option} file/below",
            "Not a directory: file/below",
            put("file", ""),
        )
        for option in ("--checkpoint", "--logdir", "--results_dir")
    ),
]

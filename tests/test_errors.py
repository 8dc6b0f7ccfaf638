"""Whatever is the user's to mend ends the run with code 2 and one line that says how, never with a traceback."""

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.workplace import Workplace


@pytest.fixture
def refused(capfd: pytest.CaptureFixture):
    """refused(workplace, options..., says=REGEX): the run ends with code 2 and one line that REGEX is found in."""

    def check(workplace: Workplace, *options: object, says: str) -> None:
        code = workplace.run("--no-visualize", *options)
        out, err = capfd.readouterr()
        assert code == 2 and "Traceback" not in out
        assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
        assert re.search(says, err), err
        assert not [path for path in workplace.folder.rglob(".*") if path.name != ".index"]

    return check


def first(workplace: Workplace, kind: str) -> Path:
    """A file that step 0 trains on: its image or its mask."""
    line = (workplace.data / "list" / "train_aug.txt").read_text().splitlines()[0].split()
    return workplace.data / line[kind == "mask"].lstrip("/")


def test_a_data_root_that_is_not_there(workplace: Workplace, refused):
    refused(workplace, "--data_root", "/nowhere", says="no folder /nowhere/JPEGImages; point --data_root")


def test_a_data_root_that_holds_something_else(workplace: Workplace, refused):
    refused(workplace, "--data_root", workplace.folder, says="no folder .*JPEGImages; point --data_root")


def test_a_missing_list(own_data: Workplace, refused):
    (own_data.data / "list" / "val.txt").unlink()
    refused(own_data, says="no list of val images .*list/val.txt")


def test_a_missing_mask(own_data: Workplace, refused):
    first(own_data, "mask").unlink()
    refused(own_data, says=f"{first(own_data, 'mask')} .*cannot be read")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--task 15-2", "--task 15-2: .*possible: 15-1, 15-5"),
        ("--task many", "--task many: "),
        ("--dataset coco", "--dataset coco: choose from"),
        ("--method SDR2", "--method SDR2: choose from"),
        ("--overlaped", "unknown option --overlaped; the nearest is --overlap "),
        ("--step 7", "--step 7: voc 15-1 has steps 0 to 5"),
        ("--method FT --loss_kd 1", "--loss_kd is an option of LWF, ILT, MiB, RCIL, not of --method FT"),
        ("--cross_val --val_on_trainset", "--cross_val and --val_on_trainset"),
    ],
)
def test_a_command_line_that_makes_no_sense(workplace: Workplace, refused, options: str, says: str):
    refused(workplace, *options.split(), says=says)


def test_a_step_without_the_checkpoint_of_the_step_before(workplace: Workplace, refused):
    refused(workplace, "--step", 1, says=f"the checkpoint of step 0 is missing: {workplace.checkpoint(0)}; train")
    refused(workplace, "--step", 1, "--test", says=f"the checkpoint of step 1 is missing: {workplace.checkpoint(1)}")
    refused(workplace, "--step", 1, "--step_ckpt", "/no/such.pth", says="the checkpoint of step 0 is missing: /no/such")


def test_the_checkpoint_of_another_task_step_or_network(trained: Workplace, workplace: Workplace, refused):
    path = trained.checkpoint(0)
    step_1 = ["--step", 1, "--step_ckpt", path]
    refused(workplace, *step_1, "--task", "19-1", says=f"{path} is of another run: it has task .*mend --task")
    refused(workplace, *step_1, "--no-overlap", says="it has scenario overlapped, this run disjoint; .*mend --scenario")
    refused(workplace, *step_1, "--backbone", "resnet50", says="it has backbone resnet26, this run resnet50")
    refused(workplace, *step_1, "--method", "FT", says="it has branches 2, this run 1")
    refused(workplace, "--step", 2, "--step_ckpt", path, says=f"{path} is of another run: it has ")
    refused(workplace, "--step", 1, "--test", "--ckpt", path, says=f"{path} is of another run: it has ")


def test_overlap_forgotten_at_step_0(trained: Workplace, workplace: Workplace, refused):
    workplace.take_checkpoints(trained, 0)
    refused(workplace, "--step", 0, "--no-overlap", says="it has scenario overlapped, this run disjoint")
    checkpoint = torch.load(workplace.checkpoint(0), weights_only=True)
    checkpoint["trainer_state"]["identity"]["scenario"] = "disjoint"
    torch.save(checkpoint, workplace.checkpoint(0))
    refused(workplace, "--step", 1, says="it has scenario disjoint, this run overlapped; .*mend --scenario")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--task 10-1", r"classifiers of \[16\] classes; step 0 of voc 10-1 needs \[11\]"),
        ("--width 16", "is of another network: .*--width"),
        ("--backbone resnet50", "is of another network: .*--backbone"),
        ("--method FT", "it holds a two-branch network"),
    ],
)
def test_a_checkpoint_without_identity_that_does_not_fit(
    trained: Workplace, workplace: Workplace, refused, options: str, says: str
):
    path = workplace.folder / "public.pth"
    torch.save({"model_state": torch.load(trained.checkpoint(0), weights_only=True)["model_state"]}, path)
    refused(workplace, "--step", 0, "--test", "--ckpt", path, *options.split(), says=f"{path}.*{says}")


def test_a_checkpoint_of_another_code_base_cannot_be_gone_on_from(trained: Workplace, workplace: Workplace, refused):
    path = workplace.folder / "public.pth"
    torch.save({"model_state": torch.load(trained.checkpoint(0), weights_only=True)["model_state"]}, path)
    refused(workplace, "--step", 0, "--ckpt", path, says="--test.*--step_ckpt")


def test_a_damaged_checkpoint(trained: Workplace, workplace: Workplace, refused):
    workplace.take_checkpoints(trained, 0)
    whole = workplace.checkpoint(0).read_bytes()
    for part in (whole[: len(whole) // 2], whole[:10], b"", b"no checkpoint at all"):
        workplace.checkpoint(0).write_bytes(part)
        refused(workplace, "--step", 1, says=str(workplace.checkpoint(0)))
    torch.save({"weights": {}}, workplace.checkpoint(0))
    refused(workplace, "--step", 1, says="no checkpoint of a step: it has no weights")
    torch.save({"model_state": Path("code")}, workplace.checkpoint(0))
    refused(workplace, "--step", 1, says="could run code")


def test_an_image_and_a_mask_of_different_sizes(own_data: Workplace, refused):
    with Image.open(first(own_data, "mask")) as mask:
        mask.resize((64, 60)).save(first(own_data, "mask"))
    refused(own_data, says=f"{first(own_data, 'mask')} is 64 x 60 .*{first(own_data, 'image')} 64 x 64")


def test_a_label_outside_the_range(own_data: Workplace, refused):
    labels = np.asarray(Image.open(first(own_data, "mask"))).copy()
    labels[3, 4] = 77
    Image.fromarray(labels).save(first(own_data, "mask"))
    refused(own_data, says=rf"{first(own_data, 'mask')} holds label 77; allowed: 0\.\.20, 255")


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_file_that_is_no_image(own_data: Workplace, refused, kind: str):
    first(own_data, kind).write_bytes(b"nothing to see here")
    refused(own_data, says=f"{kind} {first(own_data, kind)} cannot be read .*restore the file")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_breaks_off(own_data: Workplace, refused, num_workers: int):
    """Only decoding it tells, in a loader process or not."""
    for path in (own_data.data / "JPEGImages").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    refused(own_data, "--num_workers", num_workers, says="image .*JPEGImages.* cannot be read .*restore the file")


def test_a_step_with_no_image(own_data: Workplace, refused):
    path = own_data.data / "list" / "train_aug.txt"
    lines = path.read_text().splitlines(keepends=True)
    masks = [np.asarray(Image.open(own_data.data / line.split()[1].lstrip("/"))) for line in lines]
    path.write_text("".join(line for line, mask in zip(lines, masks, strict=True) if not (mask == 16).any()))
    refused(own_data, "--step", 1, says=r"step 1 \(classes 16\) is a step with no image in its train set")


def test_a_batch_larger_than_the_data_of_the_step(workplace: Workplace, refused):
    refused(workplace, "--batch_size", 48, says="--batch_size 48: .*47 training images.*--batch_size 47 or less")


def test_one_image_is_no_batch_to_train_on(trained: Workplace, workplace: Workplace, refused):
    refused(workplace, "--batch_size", 1, says="--batch_size 1: .*two images or more.*--fix_bn")
    workplace.take_checkpoints(trained, 0)
    assert workplace.run("--step", 0, "--test", "--batch_size", 1, "--no-visualize") == 0


def test_wrong_pretrained_weights(workplace: Workplace, refused, monkeypatch: pytest.MonkeyPatch):
    def with_pretrained(path: Path | None, says: str) -> None:
        options = [word for word in workplace.options() if word != "--no_pretrained"]
        monkeypatch.setattr(Workplace, "options", lambda self, *more: [*options, *map(str, more)])
        refused(workplace, *(["--pretrained", path] if path else []), says=says)

    path = workplace.folder / "weights.pth"
    with_pretrained(path, f"--pretrained {path}: no such file")
    monkeypatch.chdir(workplace.folder)
    with_pretrained(None, "no ImageNet weights for resnet26 in pretrained/: .*--pretrained.*--no_pretrained")
    path.write_text("weights")
    with_pretrained(path, f"{path} ")
    torch.save({"state_dict": "none"}, path)
    with_pretrained(path, f"{path} holds no weights by name")
    torch.save({"state_dict": {"module.mod1.conv1.weight": torch.zeros(8, 3, 7, 7)}}, path)
    with_pretrained(path, f"{path} does not fit --backbone resnet26 --width 8: ")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with_pretrained(path, f"{path}: .*features.0.weight.*no part of this network")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}, path)
    with_pretrained(path, f"{path} does not fit --backbone resnet26 --width 8: ")


def test_a_results_file_of_another_task(trained: Workplace, workplace: Workplace, refused):
    workplace.take_checkpoints(trained, 0)
    workplace.results().parent.mkdir()
    workplace.results().write_text("0,0.5,x,0.5\n")
    refused(workplace, "--step", 0, "--test", says=f"{workplace.results()} holds 2 classes and this run has 21")


def test_a_loss_that_is_not_finite(workplace: Workplace, refused):
    refused(workplace, "--lr", 1e30, says="loss 'ce' became nan .*--lr")
    assert not workplace.checkpoint(0).exists()


def test_an_interrupted_run_leaves_nothing_half_written(workplace: Workplace):
    process = workplace.start("--epochs", 1000, "--num_workers", 1, "--no-visualize", start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not workplace.checkpoint(0).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the loader processes get it too
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, "interrupted; the same command goes on from the last checkpoint\n")
    assert [path.name for path in workplace.checkpoint(0).parent.iterdir()] == [workplace.checkpoint(0).name]
    assert not torch.load(workplace.checkpoint(0), weights_only=True)["trainer_state"]["finished"]
    assert not workplace.results().exists()


@pytest.mark.parametrize("option", ["--checkpoint", "--logdir", "--results_dir"])
def test_a_folder_that_cannot_be_made(workplace: Workplace, refused, option: str):
    in_the_way = workplace.folder / "file"
    in_the_way.write_text("")
    refused(workplace, "--step", 0, option, in_the_way / "below", says=f"(Not a directory|File exists): .*{in_the_way}")

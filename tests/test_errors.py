"""Whatever is the user's to mend ends the run with code 2 and one line that says how, never with a traceback."""

import re
from pathlib import Path

import pytest
import torch

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


def test_overlap_forgotten_at_step_0(trained: Workplace, workplace: Workplace, refused):
    workplace.take_checkpoints(trained, 0)
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


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_breaks_off(own_data: Workplace, refused, num_workers: int):
    """Only decoding it tells, in a loader process or not."""
    for path in (own_data.data / "JPEGImages").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    refused(own_data, "--num_workers", num_workers, says="image .*JPEGImages.* cannot be read .*restore the file")


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


@pytest.mark.parametrize("option", ["--checkpoint", "--logdir", "--results_dir"])
def test_a_folder_that_cannot_be_made(workplace: Workplace, refused, option: str):
    in_the_way = workplace.folder / "file"
    in_the_way.write_text("")
    refused(workplace, "--step", 0, option, in_the_way / "below", says=f"(Not a directory|File exists): .*{in_the_way}")

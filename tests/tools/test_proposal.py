"""What tools/check_data.py proposes: tasks that divide the data, what fits the memory, a command line that is taken."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from argparser import Parsed, parse
from config import DataConfig
from dataset import open_dataset
from dataset.splits import StepSets
from tasks import Facts, get_task
from tests.helpers import SPECS
from tests.workplace import Workplace
from tools.check_data import main as check
from tools.make_shapes import make_shapes
from tools.proposal import PAPERS, SMALL, USABLE, Machine, propose, tasks_of

LARGE, HOST = Machine("NVIDIA H100", 78e9), Machine(None, 16e9)


@pytest.mark.parametrize("units", [1, 2, 3, 4, 5, 7, 11, 19, 20, 37, 150, 253])
def test_tasks_divide_the_data_and_are_few(units: int):
    facts = Facts(dataset="mine", num_units=units, num_classes=units + 1)
    names = tasks_of(facts)
    tasks = [get_task(facts, name) for name in names]
    assert 1 <= len(tasks) <= 4 and [task.name for task in tasks] == names and len(set(names)) == len(names)
    assert all(task.num_steps <= 6 for task in tasks)
    assert tasks[0].num_steps == min(units, 2)


def test_published_tasks_come_instead():
    assert tasks_of(SPECS["voc"].facts) == ["15-1", "19-1", "15-5", "10-1", "5-3"]
    assert tasks_of(SPECS["cityscape"].facts) == ["10-9"]
    assert "50-10" not in tasks_of(replace(open_dataset(DataConfig(dataset="imagenet100")).facts, num_units=40))


def proposed(
    dataset: str, machine: Machine, *, images: int = 400, side: int = 375, task: str = "", **options: object
) -> tuple[str, str]:
    """What is said, and the command, for steps of so many `images`."""
    overlap = None if "scenario" in options else True
    config = DataConfig(dataset=dataset, data_root=Path("data/mine"), overlap=overlap, **options)
    spec = SPECS[dataset]
    names: Sequence[str] = [task] if task else tasks_of(spec.facts)
    sets = {name: [StepSets(range(images), [1], [1])] * get_task(spec.facts, name).num_steps for name in names}
    *lines, command = propose(config, spec, sets, [side], machine)
    return "\n".join(lines), command


def parsed(command: str) -> Parsed:
    return parse(shlex.split(command.split("python run.py ")[1]))


def test_published_settings_have_their_script():
    for dataset, words in {
        "voc": "voc 15-1 overlap",
        "ade": "ade 100-50 overlap",
        "cityscapes_domain": "cityscapes_domain 11-5",
        "cityscape": "cityscape 10-9",
    }.items():
        said, command = proposed(dataset, LARGE)
        assert command.endswith(f"DATA_ROOT=data/mine sh scripts/train.sh RCIL {words}")
        assert "ResNet-101, crops of 512, batches of 24" in said
        said, command = proposed(dataset, HOST)
        assert f"sh scripts/train.sh RCIL {words}" in said and parsed(command).config.model.width == 32
    # Another one has none.
    config = parsed(proposed("voc", LARGE, task="10-5", scenario="disjoint")[1]).config
    assert (config.data.scenario, config.model.backbone, config.data.crop_size) == ("disjoint", "resnet101", 352)
    assert proposed("voc", LARGE, scenario="disjoint")[1].endswith("voc 15-1 disjoint")


@pytest.mark.parametrize(("gigabytes", "accumulate"), [(24, ""), (12, " --accumulate 2"), (6, " --accumulate 6")])
def test_a_batch_goes_in_as_many_parts_as_the_memory_asks_for(gigabytes: int, accumulate: str):
    command = proposed("voc", Machine("a card", gigabytes * 1e9))[1]
    assert command.endswith(f"voc 15-1 overlap{accumulate}")
    parts = int(accumulate.split()[-1]) if accumulate else 1
    assert PAPERS.bytes(24 // parts, 512, 21) <= USABLE * gigabytes * 1e9


@pytest.mark.parametrize("machine", [Machine("a card", 2e9), Machine(None, 2e9)])
def test_where_the_memory_is_small_the_network_is(machine: Machine):
    config = parsed(proposed("voc", machine)[1]).config
    assert (config.model.backbone, config.model.width, config.data.crop_size) == ("resnet26", 32, 256)
    assert config.accumulate > 1 and config.data.batch_size % config.accumulate == 0
    assert SMALL.bytes(config.data.batch_size // config.accumulate, 256, 21) <= USABLE * 2e9


@pytest.mark.parametrize("side", [20, 33, 100, 375, 4000])
@pytest.mark.parametrize("machine", [LARGE, HOST])
def test_a_crop_is_no_larger_than_the_pictures(side: int, machine: Machine):
    crop = parsed(proposed("voc", machine, side=side, task="10-5")[1]).config.data.crop_size
    assert crop % 32 == 0 and crop <= max(32, min(side, 512)) and crop > min(side, 256) - 32


@pytest.mark.parametrize("images", [2, 9, 50])
def test_a_batch_is_no_larger_than_a_step(images: int):
    batch = parsed(proposed("voc", LARGE, images=images, task="10-5")[1]).config.data.batch_size
    assert batch % 2 == 0 and batch <= max(2, images // 4)
    assert propose(DataConfig(data_root=Path()), SPECS["voc"], {"15-1": [StepSets([1], [1], [1])]}, [99], HOST) == [
        "too few images for the tasks that divide the classes"
    ]


@pytest.mark.parametrize("layout", ["folder", "imagefolder"])
def test_the_command_trains(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """With a smaller network, and one epoch; ROOT has a blank."""
    root = tmp_path / "my data"
    make_shapes(root, layout=layout, train=60, val=30, size=32, workers=1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert check([layout, str(root), "--sheet", str(tmp_path / "sheet.png")]) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(command.split("python run.py ")[1])
    folders = [f"--{name}={tmp_path / name}" for name in ("checkpoint", "logdir", "results_dir")]
    quick = [
        "--width",
        "8",
        "--head_channels",
        "16",
        "--no_pretrained",
        "--step",
        "0",
        "--epochs",
        "1",
        "--no_visualize",
        *folders,
    ]
    assert Workplace.main([*words, *quick]) == 0
    assert "step 0: test" in capsys.readouterr().out

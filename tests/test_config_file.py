"""--config: a run's own file of options means the same run; what is typed wins; what is no option is refused."""

from pathlib import Path

import pytest
import yaml

from argparser import parse
from config import options_of
from config_file import write_config
from methods import METHODS
from metrics.results import plain
from tests.workplace import Workplace
from utils.errors import UserError

LINES = {
    "RCIL": "--overlap --lr 0.1 0.05 --epochs 2 1 --no_pretrained --spatial_factors 1e-06 0.5 --no_visualize",
    "LWF": "--dataset ade --task 100-10 --scenario overlapped --step 1 2 --lr 0.3 --pretrained w.pth --no_crop_val",
    "EWF": "--base PLOP --pod_factor 0.5 --width 16 --stem_activation --no_drop_path --step_ckpt a.pth",
}


def options(*words: object) -> dict:
    return options_of(parse([*map(str, words)]).config)


def written(folder: Path, *words: object) -> Path:
    write_config(folder / "a run.yaml", plain(options(*words)))
    return folder / "a run.yaml"


@pytest.mark.parametrize("method", METHODS)
def test_the_file_of_a_run_means_the_same_run(tmp_path: Path, method: str):
    for line in (LINES.get(method, ""), "--name another --random_seed 7"):
        words = ["--method", method, *line.split()]
        again = parse(["--config", str(written(tmp_path, *words))])
        assert options_of(again.config) == options(*words)
        assert again.steps == parse(words).steps
        assert any(str(tmp_path) in note for note in again.provenance.notes)


def test_what_is_typed_wins(tmp_path: Path):
    path = written(tmp_path, "--method", "RCIL", *LINES["RCIL"].split())
    found = options("--config", path, "--lr", "0.7", "--step", "1", "2", "--visualize", "--task", "10-1")
    assert (found["lr"], found["epochs"], found["visualize"], found["task"]) == (
        (0.7, 0.7, 0.7),
        (2, 1, 1, 1, 1, 1),
        True,
        "10-1",
    )
    assert found["spatial_factors"] == (1e-06, 0.5) and found["overlap"]
    assert options("--config", path, "--scenario", "partitioned")["overlap"] is None
    found = options("--config", path, "--pretrained", "w.pth")
    assert (found["pretrained"], found["no_pretrained"]) == (Path("w.pth"), False)


def test_another_method_takes_what_all_methods_have(tmp_path: Path):
    path = written(tmp_path, "--method", "RCIL", *LINES["RCIL"].split(), "--batch_size", "3", "--loss_kd", "7")
    found = options("--config", path, "--method", "FT")
    base = written(tmp_path, "--method", "EWF", "--unce", "--loss_kd", "7", "--batch_size", "3")
    assert options("--config", base, "--base", "PLOP")["batch_size"] == 3
    assert (found["method"], found["batch_size"], found["lr"][:2]) == ("FT", 3, (0.1, 0.05)) and "loss_kd" not in found


def test_a_class_order_and_a_task_do_not_meet(tmp_path: Path):
    order = tmp_path / "order.txt"
    order.write_text("\n".join([", ".join(map(str, range(1, 11))), ", ".join(map(str, range(11, 21)))]))
    path = written(tmp_path, "--class_order", order)
    content = yaml.safe_load(path.read_text())
    assert parse(["--config", str(path)]).task.name == "order" and content["class_order"] == str(order)
    assert parse(["--config", str(path), "--task", "15-5"]).task.name == "15-5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: [0.1, x]", "lr.*'x'"),
        ("batchsize: 3", "unknown option 'batchsize'; the nearest is batch_size"),
        ("batch_size: true", "batch_size: a value is needed, not True"),
        ("visualize: 3", "visualize: true or false is needed, not 3"),
        ("lr: {a: 1}", "lr: a value, or a list of values, is needed"),
        ("lr: []", "lr: a value, or a list of values, is needed"),
        ("step: [0, --test]", "holds what would be an option"),
        ("help: true", "unknown option 'help'"),
        ("config: a.yaml", "unknown option 'config'"),
        ("- lr", "a line an option is needed"),
        ("", "a line an option is needed"),
        ("1: 2", "a line an option is needed"),
        ("a: [", "is no YAML"),
        ("a: !!python/object/apply:os.system [ls]", "is no YAML"),
        ("[" * 10000, "is no YAML"),
        ("name: [a, b]", "takes no such value|unrecognized|expected"),
    ],
)
def test_what_is_no_file_of_options_is_refused_in_one_line(tmp_path: Path, text: str, said: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as error:
        parse(["--config", str(path)])
    assert str(error.value).startswith(f"--config {path}") and "\n" not in str(error.value)


def test_a_run_leaves_its_file_and_a_test_does_not(trained: Workplace, workplace: Workplace):
    path = trained.results().with_suffix(".yaml")
    assert options("--config", path) == options_of(parse(trained.options("--step", 0, 1)).config)
    workplace.take_checkpoints(trained, 0, 1)
    assert workplace.run("--test", "--step", 0, 1) == 0 and workplace.results().is_file()
    assert not workplace.results().with_suffix(".yaml").exists()

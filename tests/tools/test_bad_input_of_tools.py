"""Bad input of the tools: exit code 2, one line, and nothing written."""

import importlib
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from tests.test_bad_input import snapshot
from tests.workplace import Workplace

TABLE, OTHER = "results/2022-01-01_voc_15-1_tiny.csv", "results/2022-01-01_voc_15-1_other.csv"
CKPT = "--ckpt checkpoints/15-1-voc_tiny_0.pth"


class Bad(NamedTuple):
    """What is typed, and the line that it ends with; ` ... ` stands for anything."""

    command: str
    line: str


NUMBERS = [
    Bad(f"compare {TABLE} --first 0", "--first 0: from 1 to 21, the classes of results/2022-01-01_voc"),
    Bad(f"compare {TABLE} --first -1", "--first -1: from 1 to 21"),
    Bad(f"report {TABLE} --first 22", "--first 22: from 1 to 21"),
    Bad(f"report {TABLE} --first 1.5", "argument --first: invalid int value: '1.5'"),
    Bad(f"predict picture.png {CKPT} --tile 0", "--tile 0: at least 64 pixels"),
    Bad(f"predict picture.png {CKPT} --tile 64 --overlap 33", "--overlap 33: 0 to 32, half of --tile 64"),
    Bad(f"predict picture.png {CKPT} --overlap 3", "--overlap 3: only tiles overlap; give --tile, too"),
    Bad(f"predict picture.png {CKPT} --batch_size 0", "--batch_size 0: at least 1"),
    Bad(f"predict picture.png {CKPT} --pooling 0", "--pooling 0: at least 1"),
    Bad(f"predict picture.png {CKPT} --device tpu", "--device tpu: choose from ... cpu"),
    Bad(
        f"convert {CKPT} --to authors --out new.pth --step 3",
        "--step: checkpoints/15-1-voc_tiny_0.pth says that itself",
    ),
    Bad("make_shapes --root new --size 99999", "--size 99999: 32 to 4096"),
    Bad("make_shapes --root new --seed -1", "--seed -1: 0 to 4294967295"),
    Bad("make_shapes --root new --train 0", "--train 0: 1 to 1000000"),
    Bad("make_shapes --root new --company nan", "argument --company: 'nan' is no finite number"),
    Bad("make_shapes --root new --company 2", "--company 2.0: 0 to 1"),
]
PATHS = [
    Bad(f"predict '' {CKPT}", "argument IMAGE|DIR: '' is no path; name one, or leave the option out"),
    Bad(f"predict picture.png {CKPT} --out ''", "argument --out: '' is no path"),
    Bad(f"predict none.png {CKPT}", "none.png"),
    Bad(f"predict words {CKPT}", "words"),
    Bad(f"predict picture.png {CKPT} --truth none", "none"),
    Bad("predict picture.png --ckpt ''", "argument --ckpt: '' is no path"),
    Bad("predict picture.png --ckpt words", "words is damaged, or holds more than tensors and plain values"),
    Bad("predict picture.png --ckpt results", "the checkpoint is missing: results; train that step first"),
    Bad(f"export {CKPT} --out ''", "argument --out: '' is no path"),
    Bad(f"export {CKPT} --out words", "--out words is a file; name a folder"),
    Bad(f"export {CKPT} --out new --form tflite", "argument --form: invalid choice: 'tflite'"),
    Bad(f"body {CKPT} --out new.pth", "15-1-voc_tiny_0.pth has merged branches ... give --images DIR"),
    Bad(f"body {CKPT} --out new.pth --images none", "none"),
    Bad(f"convert {CKPT} --to ours --out checkpoints/15-1-voc_tiny_0.pth", "15-1-voc_tiny_0.pth"),
    Bad("check_data voc ''", "argument ROOT: '' is no path"),
    Bad("check_data voc none", "none"),
    Bad("check_data voc voc --task 99-1", "--task 99-1"),
    Bad("check_data voc voc --class_order words", "words"),
    Bad("check_data voc voc --sheet sheet.jpg", "argument --sheet: 'sheet.jpg' is to be a PNG"),
    Bad("colours_to_labels pictures labels --classes words", "words"),
    Bad("colours_to_labels pictures labels --dataset voc --ignore zzz", "zzz"),
    Bad("colours_to_labels pictures '' --dataset voc", "argument OUT: '' is no path"),
    Bad(f"compare {TABLE} --png curve.pdf", "argument --png: 'curve.pdf' is to be a PNG"),
    Bad(f"compare {TABLE} --markdown ''", "argument --markdown: '' is no path"),
    Bad("compare none.csv", "none.csv cannot be read (No such file or directory); name a results file"),
    Bad(f"report {TABLE} --out words", "--out words is a file; name a folder"),
    Bad(f"report {TABLE} --tensorboard ''", "argument --tensorboard: '' is no path"),
    Bad(f"report {TABLE} {TABLE}", "results/2022-01-01_voc_15-1_tiny.csv is named twice"),
    Bad("make_saliency none", "none"),
    Bad("make_shapes --root ''", "argument --root: '' is no path"),
    Bad("make_shapes --root pictures", "pictures is not empty and holds no shapes.json of this tool"),
    Bad("download weights resnet9000", "argument NAME: invalid choice: 'resnet9000'"),
    Bad("download voc ''", "argument folder: '' is no path"),
    Bad("download", "the following arguments are required: what (--help lists all options)"),
]


@pytest.fixture
def place(trained: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished step with its table, and what is none of what it is taken for."""
    shutil.copytree(trained.folder, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("logs"))
    (tmp_path / "voc").symlink_to(trained.data)
    (tmp_path / "words").write_text("no such thing\n")
    (tmp_path / "pictures").mkdir()
    for name in ("picture.png", "pictures/picture.png"):
        Image.new("RGB", (70, 50), (9, 9, 200)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def require_one_line(command: str, line: str, capfd: pytest.CaptureFixture) -> None:
    name, *words = shlex.split(command)
    before = snapshot(Path.cwd())
    try:
        code = importlib.import_module(f"tools.{name}").main(words)
    except SystemExit as end:  # of argparse
        code = end.code
    said = capfd.readouterr().err
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1, said
    assert re.search(".*".join(re.escape(part.strip()) for part in line.split("...")), said), said
    assert snapshot(Path.cwd()) == before


@pytest.mark.parametrize("row", NUMBERS + PATHS, ids=[row.command.replace(" ", "_") for row in NUMBERS + PATHS])
def test_a_tool_says_what_is_wrong(place: Path, row: Bad, capfd: pytest.CaptureFixture):
    require_one_line(row.command, row.line, capfd)


@pytest.mark.parametrize("tool", ["compare", "report"])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "is empty: a results file has a row a step"),
        ("0,0.5\n", "line 1: 2 fields; a row is step,IoU_0,...,mIoU".replace("...", " ... ")),
        ("0,0.5,x,0.5\n1,0.5,0.5,nan\n", "line 2: 'nan' is neither a fraction from 0 to 1 nor 'X' or 'x'"),
        ("0,0.5,x,0.5\n\n1,0.5,0.5\n", "line 3: 3 fields, the first row has 4"),
        ("0,0.5,x,0.5\n-1,0.5,x,0.5\n", "line 2: '-1' is no step"),
        ("0,x,0.5,0.5\n", "line 1: a figure after 'x', though classes come in order"),
        ("0,0.5,x,0.5\n0,0.6,x,0.6\n", "two rows of the same step"),
        ("0,0.5,x,\u20ac\n", "line 1: '\u20ac' is neither a fraction"),
        ("0,0.5," + "x" * 200_000 + "\n", "is not a results file: field larger than field limit"),
    ],
)
def test_a_malformed_table_is_named_with_its_line(
    place: Path, tool: str, content: str, line: str, capfd: pytest.CaptureFixture
):
    (place / OTHER).write_text(content)
    require_one_line(f"{tool} {OTHER}", f"{OTHER} ... {line}", capfd)


def test_a_malformed_table_of_minutes_is_named_with_its_line(place: Path, capfd: pytest.CaptureFixture):
    Path("minutes.csv").write_text("tiny,1.5\ntiny,\n")
    require_one_line("compare .", "minutes.csv, line 2: '' is no number; a line is METHOD,MINUTES", capfd)


@pytest.mark.parametrize(
    "command",
    [
        "compare huge",
        "report other.csv",
        "check_data voc voc --class_order huge",
        "colours_to_labels pictures labels --classes huge",
        "predict huge.png --ckpt checkpoints/15-1-voc_tiny_0.pth",
        "predict picture.png --ckpt huge",
    ],
)
def test_a_file_of_holes_that_is_larger_than_the_memory(place: Path, command: str, capfd: pytest.CaptureFixture):
    with open("huge", "wb") as file:
        file.truncate(2**41)
    Path("huge.png").symlink_to("huge")
    shutil.copy(TABLE, "other.csv")
    Path("other.jsonl").symlink_to("huge")
    content = {path: path.stat().st_size for path in place.rglob("*")}
    name, *words = shlex.split(command)
    assert importlib.import_module(f"tools.{name}").main(words) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "cannot be read" in said, said
    assert {path: path.stat().st_size for path in place.rglob("*")} == content


JOURNALS = {
    "words": ("hello", "line 2: Expecting value"),
    "a list": ("[1, 2]", "line 2: no event of a run"),
    "no event": ('{"step": 1}', "line 2: no event of a run"),
    "a step that is no number": ('{"event": "losses", "step": "x"}', "line 2: no event of a run"),
    "a list without end": ("[" * 100_000, "line 2: maximum recursion depth exceeded"),
    "others' classes": ('{"event": "run", "class_names": ["cat"]}', "is of another run"),
    "steps of less than nothing": ('{"event": "run", "classes_per_step": [22, -1]}', "is of another run"),
    "steps without end": ('{"event": "run", "classes_per_step": [1000000000000]}', "is of another run"),
    "a palette of words": ('{"event": "run", "palette": "red"}', "is of another run"),
    "colours beyond white": ('{"event": "run", "palette": [[256, 0, 0]]}', "is of another run"),
    "options that are none": ('{"event": "run", "config": 3}', "is of another run"),
}


@pytest.mark.parametrize("kind", JOURNALS)
def test_a_malformed_journal_is_named_with_its_line(place: Path, kind: str, capfd: pytest.CaptureFixture):
    content, line = JOURNALS[kind]
    shutil.copy(TABLE, OTHER)
    Path(OTHER).with_suffix(".jsonl").write_text(f'{{"event": "validation", "step": 0}}\n{content}\n')
    require_one_line(f"report {OTHER}", f"2022-01-01_voc_15-1_other.jsonl ... {line}", capfd)


@pytest.mark.parametrize("name", ["../../out", "/out", "..", ".", "a/b|c\n<i>", "\u202eabc", "x" * 500])
def test_a_report_writes_nowhere_but_in_its_folder(place: Path, name: str, capfd: pytest.CaptureFixture):
    report = importlib.import_module("tools.report").main
    shutil.copy(TABLE, OTHER)
    about = {"event": "run", "name": name, "samples": "../logs", "config": {"a\n|b": "c|\n# d"}}
    Path(OTHER).with_suffix(".jsonl").write_text(json.dumps(about) + "\n")
    before = snapshot(place)
    assert report([OTHER, "--out", "page", "--tensorboard", "page/board"]) == 0
    written = {path.relative_to(place).parts[0] for path in snapshot(place).keys() - before.keys()}
    assert written == {"page"} and snapshot(place).items() >= before.items()
    page = Path("page/report.md").read_text()
    assert "| a\\n\\|b | c\\|\\n# d |" in page and "<i>" not in Path("page/report.html").read_text()

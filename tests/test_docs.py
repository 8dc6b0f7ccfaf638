"""Every command, link and piece of code in docs/ is one that works, and what is generated is up to date."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from argparser import build_parser, parse
from docs.figures.rc_block import draw
from tests.published import write_published
from tests.workplace import Workplace
from tools import convert
from tools.list_options import markdown

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
OPTIONS = {option for action in build_parser()._actions for option in action.option_strings}
# What pages say of other programs, or of an option in general.
FOREIGN = {"--NAME", "--no-NAME"}


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    lines = "".join(blocks(text, "sh")).replace("\\\n", "").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.split("#")[0].strip()]


STARTERS = r"run\.py|slurm\.sh"
OWN = ("--method HOLD", "--dataset sketches")
RUN_LINES = [
    line
    for text in PAGES.values()
    for line in commands(text)
    if re.search(STARTERS, line) and not any(word in line for word in OWN)
]


@pytest.mark.parametrize("line", RUN_LINES)
def test_options_of_run_py_are_taken(line: str):
    parse(shlex.split(re.split(STARTERS, line, maxsplit=1)[1]))


@pytest.mark.parametrize("name", PAGES)
def test_links_pictures_and_programs_are_there(name: str):
    text = PAGES[name]
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
        assert (ROOT / "docs" / target).is_file(), target
    for target in re.findall(r"\b(?:tools|scripts)/[\w/-]+\.(?:py|sh)", text):
        assert (ROOT / target).is_file(), target
    for target in re.findall(r"python -m benchmarks\.(\w+)", text):
        assert (ROOT / "benchmarks" / f"{target}.py").is_file(), target


@pytest.mark.parametrize("name", PAGES)
def test_options_in_the_text_are_there(name: str):
    own = {"--loss_hold"} if name == "ADDING_A_METHOD.md" else set()
    prose = re.sub(r"```.*?```", "", PAGES[name], flags=re.DOTALL)
    tools = "".join(path.read_text() for path in (ROOT / "tools").glob("*.py"))
    for option in sorted(set(re.findall(r"`(--[A-Za-z][\w-]*)", prose)) - FOREIGN - own):
        assert option in OPTIONS or f'"{option}"' in tools, option


def test_the_list_of_options_is_up_to_date():
    assert PAGES["SETTINGS.md"].endswith(f"\n\n{markdown()}"), "see python tools/list_options.py"


# SPEC 9: those that users' scripts carry.
AUTHORS_OPTIONS = """
date name step lr epochs batch_size crop_size method opt_level checkpoint step_ckpt ckpt test num_workers
random_seed logdir sample_num visualize debug print_interval val_interval ckpt_interval data_root dataset task
overlap data_masking crop_val test_on_val val_on_trainset cross_val ignore_test_bg backbone output_stride
no_pretrained norm_act pooling freeze fix_bn lr_old momentum weight_decay lr_policy lr_power lr_decay_step
lr_decay_factor loss_kd loss_de unce unkd alpha init_balanced bce icarl icarl_importance icarl_disjoint icarl_bkg
regularizer reg_importance reg_alpha reg_no_normalize reg_iterations pseudo threshold step_threshold pseudo_nb_bins
classif_adaptive_factor classif_adaptive_min_factor pod pod_factor pod_options pod_prepro no_pod_schedule pod_logits
spp_scales
"""


@pytest.mark.parametrize("name", AUTHORS_OPTIONS.split())
def test_every_option_of_the_authors_is_in_the_table_and_taken(name: str):
    table = PAGES["FROM_THE_AUTHORS_CODE.md"].split("## Options")[1].split("## Checkpoints")[0]
    assert f"`--{name}`" in table and f"--{name}" in OPTIONS


README = (ROOT / "README.md").read_text()
TOOL_LINES = [
    line
    for text in (*PAGES.values(), README)
    for line in dict.fromkeys([*commands(text), *re.findall(r"`(?:\.venv/bin/)?(python tools/[^`]+)`", text)])
    if re.match(r"python tools/(average_csv|compare_csv|convert|export|predict|report)\.py .", line)
]
MEANT = {"...": "", "IMAGE": "picture.jpg", "PICTURE": "picture.jpg", "DIR": "folder", "THEIRS.pth": "theirs.pth"}
"""What stands in the pages for files of the reader's own."""


@pytest.fixture(scope="module")
def own_files(trained: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands of the pages read."""
    folder = tmp_path_factory.mktemp("own")
    demo = folder / "demo" / "seed42" / "checkpoints" / "15-1-voc_RCIL_5.pth"
    demo.parent.mkdir(parents=True)
    shutil.copy(trained.checkpoint(0), folder / "own.pth")
    shutil.copy(trained.checkpoint(1), demo)
    assert convert.main(f"--ckpt {folder}/own.pth --to theirs --out {folder}/theirs.pth".split()) == 0
    shutil.copy(next((trained.data / "JPEGImages").glob("*.jpg")), folder / "picture.jpg")
    for name, file in (("RCIL", "2022-10-17"), ("FT", "2022-08-26")):
        [path] = write_published(folder, f"{file}_voc_15-5s_RCIL_overlap")
        (folder / "results").mkdir(exist_ok=True)
        path.rename(folder / "results" / f"2026-01-31_voc_15-1_{name}.csv")
    return folder


def test_the_pages_have_commands_of_tools():
    assert {re.search(r"tools/(\w+)", line)[1] for line in TOOL_LINES} == {
        *("average_csv", "compare_csv", "convert", "export", "predict", "report")
    }


@pytest.mark.parametrize("line", TOOL_LINES)
def test_the_commands_of_tools_run(line: str, own_files: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(own_files)
    _, program, *words = shlex.split(line)
    tool = Path(program).stem
    tables = iter(sorted((own_files / "results").glob("*.csv")))
    filled = []
    for before, word in zip([program, *words], words, strict=False):
        if word == "FILE" and before == "--out":
            word = "converted.pth"
        elif word == "FILE" and before == "--ckpt":
            word = "theirs.pth" if "ours" in words else "own.pth"
        elif word == "FILE":
            word = str(next(tables))
        filled.append(MEANT.get(word, word))
    if tool == "convert":
        if "OURS.pth" in words and "theirs" in words:
            shutil.copy("own.pth", "OURS.pth")
        filled.append("--overwrite")
    if tool == "export":
        filled += ["--form", "weights"]  # the others, which take longer, have tests of their own
    assert importlib.import_module(f"tools.{tool}").main(list(filter(None, filled))) == 0


def test_the_figure_is_drawn(tmp_path: Path):
    draw(tmp_path / "block.png")
    draw(tmp_path / "again.png")
    assert (tmp_path / "block.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_the_citation_has_what_its_format_asks_for():
    keys = dict(re.findall(r"^([a-z-]+):(.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    assert keys["cff-version"].strip() == "1.2.0" and {"message", "title", "authors", "preferred-citation"} <= set(keys)


def copy_of_the_tree(folder: Path, part: str) -> None:
    """The checkout as links, but for the package `part`, which may be changed, and for data and results."""
    for path in ROOT.iterdir():
        if path.suffix == ".py" or path.name == "data" or (any(path.glob("*.py")) and path.name[0] != "."):
            if path.is_dir() and path.name in (part, "data"):
                shutil.copytree(
                    path, folder / path.name, ignore=shutil.ignore_patterns("shapes*", "__pycache__", "mine")
                )
            elif path.is_dir():
                (folder / path.name).symlink_to(path)
            else:
                shutil.copy2(path, folder)  # a link would put the real tree on the path


def change(path: Path, line: str, entry: str, end: str) -> None:
    """The import and the entry of a page in an __init__.py, the latter before the `end` of its table."""
    before, after = path.read_text().split(end, 1)
    path.write_text(before.replace("\nfrom ", f"\n{line}from ", 1) + f"\n{entry.rstrip()}{end}{after}")


def call(folder: Path, *words: str) -> str:
    variables = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_worked_example_of_a_method_trains(tmp_path: Path, shapes: Path):
    text = PAGES["ADDING_A_METHOD.md"]
    loss, method, line, entry, test = blocks(text, "python")
    copy_of_the_tree(tmp_path, "methods")
    with (tmp_path / "methods" / "losses.py").open("a") as file:
        file.write(f"\n\n{loss}")
    (tmp_path / "methods" / "hold.py").write_text(method)
    change(tmp_path / "methods" / "__init__.py", line, entry, "\n}")
    [command] = commands(text)
    words = shlex.split(command.replace("data/shapes", str(shapes)))[1:]
    code = f"{test}\n\ntest_only_old_logits_count()\nimport run, sys; sys.exit(run.main({words[1:]!r}))"
    assert "step 1: test IoU in percent" in call(tmp_path, "-c", code)


def test_the_worked_example_of_a_data_set_trains(tmp_path: Path):
    text = PAGES["ADDING_A_DATA_SET.md"]
    spec, line, entry = blocks(text, "python")
    copy_of_the_tree(tmp_path, "dataset")
    (tmp_path / "dataset" / "sketches.py").write_text(spec)
    change(tmp_path / "dataset" / "__init__.py", line, entry, "\n}")
    draw_some, train = commands(text)
    call(tmp_path, *shlex.split(draw_some)[1:])
    assert "step 0: test IoU in percent" in call(tmp_path, *shlex.split(train)[1:])

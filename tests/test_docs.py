"""Every command, link and piece of code in docs/ is one that works, and what is generated is up to date."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from argparser import build_parser, parse
from docs.make import architecture, first_hour, rc_block, settings
from tests.published import write_published
from tests.worked_example import blocks
from tests.workplace import Workplace
from tools import convert

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
# Its commands were run when it was written.
WALK = PAGES.pop("FIRST_HOUR.md")
OPTIONS = {option for action in build_parser()._actions for option in action.option_strings}
# What pages say of other programs, or of an option in general.
FOREIGN = {"--NAME", "--no_NAME", "--build-arg", "--torch-backend", "--upgrade"}


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
    words = shlex.split(re.split(STARTERS, line, maxsplit=1)[1])
    if "slurm.sh" not in line:
        parse(words)
        return
    methods, dataset, task, setting, *options = words
    assert setting == "overlap"
    for method in methods.split():
        parse(["--method", method, "--dataset", dataset, "--task", task, "--overlap", *options])


@pytest.mark.parametrize("name", PAGES)
def test_links_pictures_and_programs_are_there(name: str):
    text = PAGES[name]
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
        assert (ROOT / "docs" / target).is_file(), target
    for target in re.findall(r"\b(?:tools|scripts)/[\w/-]+\.(?:py|sh)", text):
        assert (ROOT / target).is_file(), target
    for target in re.findall(r"python -m benchmarks\.(\w+)", text):
        assert (ROOT / "benchmarks" / f"{target}.py").is_file(), target


def headings(text: str) -> set[str]:
    """What links to the parts of a page are called."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}" for name in PAGES)])
def test_links_to_parts_of_pages_lead_somewhere(page: str):
    path = ROOT / page
    for target, part in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", path.read_text()):
        other = path.parent / target if target else path
        assert part in headings(other.read_text()), f"{target}#{part}"


@pytest.mark.parametrize("name", PAGES)
def test_options_in_the_text_are_there(name: str):
    own = {"--loss_hold", "--hold_rate"} if name == "ADDING_A_METHOD.md" else set()
    prose = re.sub(r"```.*?```", "", PAGES[name], flags=re.DOTALL)
    tools = "".join(path.read_text() for path in (ROOT / "tools").glob("*.py"))
    for option in sorted(set(re.findall(r"`(--[A-Za-z][\w-]*)", prose)) - FOREIGN - own):
        assert option in OPTIONS or f'"{option}"' in tools, option


def test_what_is_made_from_the_code_is_up_to_date(tmp_path: Path):
    assert PAGES["SETTINGS.md"] == settings.page(), "see python docs/make/settings.py"
    assert PAGES["ARCHITECTURE.md"] == architecture.page(), "see python docs/make/architecture.py"
    with Image.open(ROOT / "docs" / "architecture.png") as picture:
        assert picture.info["Description"] == architecture.described(), "see python docs/make/architecture.py"


def test_the_first_hour_is_the_path_of_the_readme():
    assert commands(WALK) == first_hour.commands(README), "see python docs/make/first_hour.py"


def test_a_page_about_code_that_is_gone_is_refused():
    with pytest.raises(ValueError, match="there is no train_one_epoch"):
        architecture.require("train.py: Trainer.train_one_epoch")


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
    if re.match(r"python tools/(compare|convert|export|hub|predict|report)\.py .", line)
]
MEANT = {"...": "", "IMAGE": "picture.jpg", "PICTURE": "picture.jpg", "DIR": "folder", "AUTHORS.pth": "authors.pth"}
"""What stands in the pages for files of the reader's own."""


@pytest.fixture(scope="module")
def own_files(trained: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands of the pages read."""
    folder = tmp_path_factory.mktemp("own")
    demo = folder / "demo" / "seed42" / "checkpoints" / "15-1-voc_RCIL_5.pth"
    demo.parent.mkdir(parents=True)
    shutil.copy(trained.checkpoint(0), folder / "own.pth")
    shutil.copy(trained.checkpoint(1), demo)
    assert convert.main(f"--ckpt {folder}/own.pth --to authors --out {folder}/authors.pth".split()) == 0
    shutil.copy(next((trained.data / "JPEGImages").glob("*.jpg")), folder / "picture.jpg")
    for name, file in (("RCIL", "2022-10-17"), ("FT", "2022-08-26")):
        [path] = write_published(folder, f"{file}_voc_15-5s_RCIL_overlap")
        (folder / "results").mkdir(exist_ok=True)
        path.rename(folder / "results" / f"2026-01-31_voc_15-1_{name}.csv")
    for seed in (42, 43):
        shutil.copytree(folder / "results", folder / "runs" / f"seed{seed}" / "results")
    return folder


def test_the_pages_have_commands_of_tools():
    assert {re.search(r"tools/(\w+)", line)[1] for line in TOOL_LINES} == {
        *("compare", "convert", "export", "hub", "predict", "report")
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
            word = "authors.pth" if "ours" in words else "own.pth"
        elif word == "FILE":
            word = str(next(tables))
        filled.append(MEANT.get(word, word))
    if tool == "convert":
        if "OURS.pth" in words and "authors" in words:
            shutil.copy("own.pth", "OURS.pth")
        filled.append("--overwrite")
    if tool == "hub":
        pytest.importorskip("huggingface_hub")
    if tool == "export":
        filled += ["--form", "weights"]  # the others, which take longer, have tests of their own
    assert importlib.import_module(f"tools.{tool}").main(list(filter(None, filled))) == 0


def test_the_lines_for_a_notebook_run(own_files: Path):
    [lines] = re.findall(r"```python\n(import torch\n\nnetwork = .*?)```", README, re.DOTALL)
    lines = lines.replace("CHECKOUT", str(ROOT)).replace("PICTURE", "picture.jpg")
    shown = (
        "assert result.overlay.size and network(network.transform('picture.jpg')).shape[1] == len(network.class_names)"
    )
    subprocess.run([sys.executable, "-c", lines + shown], cwd=own_files, check=True)


def test_the_figure_is_drawn(tmp_path: Path):
    rc_block.draw(tmp_path / "block.png")
    rc_block.draw(tmp_path / "again.png")
    assert (tmp_path / "block.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_the_citation_has_what_its_format_asks_for():
    keys = dict(re.findall(r"^([a-z-]+):(.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    assert keys["cff-version"].strip() == "1.2.0" and {"message", "title", "authors", "preferred-citation"} <= set(keys)

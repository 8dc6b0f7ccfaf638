"""Every kind of bad input ends the run with code 2 and the line of its row, and leaves all files as they were."""

import re
import shlex
import shutil
from operator import attrgetter
from pathlib import Path

import pytest

from tests.bad_input import BAD_INPUT, BadInput
from tests.workplace import Workplace

OF_A_FILE = attrgetter("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


def snapshot(folder: Path) -> dict[Path, tuple]:
    """Every file with what changes where it is written, but locks and the class index, which a run may make anew."""
    return {
        path: OF_A_FILE(path.stat())
        for path in folder.rglob("*")
        if path.is_file() and ".index" not in path.parts and path.suffix != ".lock" and path.name != ".lock"
    }


def command_line(workplace: Workplace, row: BadInput) -> list[str]:
    """The options of the tiny run but the one that is left out, with paths relative to its folder."""
    words = workplace.options("--no_visualize")
    if row.without:
        at = words.index(row.without)
        del words[at : at + 1 + (not words[at + 1].startswith("--"))]
    words = [word.removeprefix(f"{workplace.folder}/") for word in words]
    return [*words, *shlex.split(row.command)]


def test_there_are_more_than_a_hundred_and_twenty_kinds():
    assert len({row.kind for row in BAD_INPUT}) == len(BAD_INPUT) > 120


def copy_of(trained: Workplace, folder: Path) -> Workplace:
    """Its data, checkpoints and tables, with nothing else beside them."""
    shutil.copytree(trained.data, folder / "voc")
    workplace = Workplace(folder, folder / "voc")
    workplace.take_checkpoints(trained, 0, 1)
    shutil.copytree(trained.results().parent, workplace.results().parent)
    return workplace


@pytest.fixture(scope="module")
def unspoilt(trained: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """For the rows that change no file, as the test itself makes sure."""
    return copy_of(trained, tmp_path_factory.mktemp("unspoilt"))


@pytest.mark.parametrize("row", BAD_INPUT, ids=[row.kind.replace(" ", "-") for row in BAD_INPUT])
def test_bad_input_gets_one_line_and_changes_nothing(
    trained: Workplace,
    unspoilt: Workplace,
    tmp_path: Path,
    row: BadInput,
    capfd: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    workplace = copy_of(trained, tmp_path) if row.spoil else unspoilt
    monkeypatch.chdir(workplace.folder)
    if row.spoil:
        row.spoil(workplace)
    before = snapshot(workplace.folder)
    code = workplace.main(command_line(workplace, row))
    out, err = capfd.readouterr()
    assert code == 2 and "Traceback" not in out + err, err
    assert err.startswith("error: ") and err.count("\n") == 1, err
    pattern = ".*".join(re.escape(part.strip()) for part in row.line.split("..."))
    assert re.search(pattern, err), err
    assert snapshot(workplace.folder) == before

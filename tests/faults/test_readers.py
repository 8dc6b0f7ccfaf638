"""Broken files of every kind are taken or refused in one line: a short run of benchmarks/fuzz_readers.py."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from benchmarks import fuzz_readers
from benchmarks.fuzz_readers import attempt, draw, fuzz, put
from benchmarks.mutations import ARRAYS, BYTES, TEXT, with_checksums
from benchmarks.readers import Reader, readers, valid_images, valid_masks
from utils.errors import UserError


def test_broken_files_are_taken_or_refused(tmp_path: Path):
    report = fuzz(readers(tmp_path), tmp_path, seed=0, inputs=600)
    assert not report.faults, "\n".join(report.lines())
    assert report.inputs.total() == 600 and report.inputs.keys() == report.accepted.keys()
    # Both happen to each of them; a broken index alone is never refused, but built again.
    refused = report.inputs - report.accepted
    assert min(report.inputs.values()) > 20 and min(report.accepted.values()) > 0
    assert set(refused) == set(report.inputs) - {"load_index"}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_sound_files_are_what_the_mutations_start_from(tmp_path: Path):
    for reader in readers(tmp_path):
        outcomes = []
        for content in reader.valid:
            put(Random(0), tmp_path / reader.path, content, pipes=False)
            outcomes.append(attempt(reader, tmp_path))
        assert not [fault for _, fault in outcomes if fault], reader.name
        accepted = sum(right for right, _ in outcomes)
        assert accepted == len(outcomes) or (reader.path == "picture" and accepted > 10), reader.name


@pytest.mark.parametrize("way", sorted({*BYTES, *TEXT, *ARRAYS}, key=lambda way: way.__name__))
def test_a_mutation_takes_whatever_another_one_left(way: Callable):
    valid = [b"", b"x", b"a,b\nc", *valid_masks(), *valid_images()]
    changed = [way(Random(number), content, valid) for number, content in enumerate(valid)]
    assert all(isinstance(content, bytes) for content in changed)
    assert changed == [way(Random(number), content, valid) for number, content in enumerate(valid)]


def test_checksums_of_a_png_are_put_right():
    for content in valid_masks():
        assert with_checksums(content) == content
        if content.startswith(b"\x89PNG"):
            damaged = content[:29] + bytes(4) + content[33:]  # that of the header
            assert with_checksums(damaged) == content


def hang(root: Path) -> None:
    time.sleep(60)


def die(root: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fail(root: Path) -> None:
    raise ZeroDivisionError("by zero")


def babble(root: Path) -> None:
    raise UserError("one\ntwo")


def find_nothing(root: Path) -> None:
    return None


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (hang, r"the process ended with 1: Timeout .*in hang"),
        (die, r"the process ended with -11: Fatal Python error: Segmentation fault.*in die"),
        (fail, r"^ZeroDivisionError: by zero$"),
        (babble, r"^a message of 7 characters that is no line: 'one\\ntwo'$"),
        (find_nothing, r"^a result of another form: 'None'$"),
    ],
)
def test_a_fault_is_found_and_the_files_after_it_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable, says: str
):
    def read_or_fail(root: Path) -> str:
        content = (root / "file").read_bytes()
        return "fine" if content != faulty else read(root)

    monkeypatch.setattr(fuzz_readers, "SECONDS_PER_FILE", 0.5)
    monkeypatch.setattr(fuzz_readers, "put", lambda random, path, content, pipes: path.write_bytes(content))
    reader = Reader("read", "file", read_or_fail, lambda found: found == "fine", [bytes(range(100))], BYTES)
    faulty = draw([reader], 0, 3)[1]
    report = fuzz([reader], tmp_path, seed=0, inputs=7)
    assert report.inputs["read"] == 7 and report.accepted["read"] == 6
    [outcome] = report.faults
    assert outcome.number == 3
    assert re.search(says, outcome.fault, re.DOTALL), outcome.fault


def test_a_fault_is_exit_code_1_and_its_file_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    reader = Reader("read", "file", fail, bool, [b"abc"], BYTES)
    monkeypatch.setattr(fuzz_readers, "readers", lambda root: [reader])
    assert fuzz_readers.main(["--seconds", "0.1", "--seed", "5", "--out", str(tmp_path / "kept")]) == 1
    said = capsys.readouterr().out
    assert "file 0, read: ZeroDivisionError: by zero" in said and f"kept: {tmp_path}/kept/5-0-read" in said
    assert (tmp_path / "kept/5-0-read").read_bytes() == draw([reader], 5, 0)[1]

"""Two processes: one that dies, one that was given something else, a stop of both. Nobody waits for ever, and the
message says who it was."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.kill_resume import command_line, descendants, parent
from tests.workplace import REPOSITORY, Workplace, assert_same, load, terminate

# Norms that do not look at their peers: the processes hold different statistics in the middle of an epoch.
RUN = [
    "--step",
    "0",
    "--epochs",
    "2",
    "--batch_size",
    "2",
    "--norm_act",
    "abn",
    "--save_minutes",
    "0.0001",
    "--no-visualize",
]


def torchrun(*options: str) -> tuple[str, ...]:
    return ("torch.distributed.run", "--standalone", "--nproc_per_node", "2", *options)


def workers_of(process: subprocess.Popen) -> list[int]:
    """The processes of a run under torchrun, by rank."""
    found = [child for child in descendants(process.pid) if b"run.py" in command_line(child)]
    return [child for child in found if parent(child) == process.pid]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Workplace:
    """The run of two processes that was left alone."""
    workplace = Workplace(tmp_path_factory.mktemp("calm"), shapes)
    process = workplace.start(*RUN, launcher=torchrun())
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return workplace


def require_outcome(workplace: Workplace, calm: Workplace) -> None:
    assert_same(load(workplace.checkpoint(0)), load(calm.checkpoint(0)))
    assert workplace.results().read_bytes() == calm.results().read_bytes()


def test_a_process_that_dies_is_named_and_torchrun_starts_all_again_from_the_checkpoint(
    calm: Workplace, workplace: Workplace
):
    process = workplace.start(*RUN, launcher=torchrun("--max-restarts", "1"))
    try:
        workplace.wait_for(process, workplace.checkpoint(0))
        victim = workers_of(process)[1]
        os.kill(victim, signal.SIGKILL)
        start = time.monotonic()
        while victim in workers_of(process) or len(workers_of(process)) < 2:
            assert time.monotonic() - start < 60 and process.poll() is None
            time.sleep(0.1)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, err
    said = rf"error: process 1 \(.+, process {victim}\) died without a word; .*goes on from the last checkpoint\n"
    assert re.search(said, err)
    assert "goes on after iteration" in out
    require_outcome(workplace, calm)


def test_a_stop_saves_in_all_processes_at_the_same_iteration(calm: Workplace, workplace: Workplace):
    _, err = workplace.end(workplace.start(*RUN, launcher=torchrun()), workplace.checkpoint(0), terminate)
    assert re.search(r"stopped by SIGTERM: step 0 is saved at epoch \d, iteration \d+; the same command goes on", err)
    state = load(workplace.checkpoint(0))["trainer_state"]
    assert not state["finished"] and len(state["processes"]) == 2
    statistics = [of_one["buffers"]["body.stem.norm.running_mean"] for of_one in state["processes"]]
    assert not statistics[0].equal(statistics[1])
    assert not [path for path in workplace.folder.rglob(".*") if path.is_file()]
    process = workplace.start(*RUN, launcher=torchrun())
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    require_outcome(workplace, calm)


def test_one_process_goes_on_with_what_two_began_if_the_batch_is_the_same(
    calm: Workplace, workplace: Workplace, capfd: pytest.CaptureFixture
):
    workplace.end(workplace.start(*RUN, launcher=torchrun()), workplace.checkpoint(0), terminate)
    assert workplace.run(*RUN) == 2
    assert "--batch_size 4 then and 2 now" in capfd.readouterr().err
    assert workplace.run(*RUN, "--batch_size", 4) == 0
    assert "was begun by 2 process(es) and is gone on with by 1" in capfd.readouterr().out


def test_why_one_process_gave_up_is_said_by_the_other(own_data: Workplace):
    line = (own_data.data / "list" / "train_aug.txt").read_text().splitlines()[0]
    image = own_data.data / line.split()[0].lstrip("/")
    image.write_bytes(image.read_bytes()[:1000])
    process = own_data.start(*RUN, "--epochs", 9, launcher=torchrun())
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    reason = rf"error: image {image} cannot be read \(.*\); restore the file\n"
    assert re.search(rf"^{reason}", err, re.MULTILINE), err
    of_the_other = rf"^error: process [01] \(.*, process \d+\) gave up: {reason[:-2]}; the same command goes on"
    assert re.search(of_the_other, err, re.MULTILINE), err


def start_rank(rank: int, port: int, program: Path, options: list[str]) -> subprocess.Popen:
    """One process of two, as a launcher on its host would start it."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    environment = os.environ | address | {"LOCAL_RANK": "0", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, str(program / "run.py"), *options]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def copied_program(folder: Path) -> Path:
    """The program with a comment more."""
    for path in REPOSITORY.glob("*.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("dataset", "methods", "metrics", "modules", "utils"):
        (folder / name).symlink_to(REPOSITORY / name)
    with open(folder / "train.py", "a") as file:
        file.write("# changed\n")
    return folder


@pytest.mark.parametrize("different", ["configuration", "code", "data"])
def test_a_process_that_was_given_something_else_is_told_apart_at_the_start(own_data: Workplace, different: str):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program, strange = REPOSITORY, own_data.options(*RUN)
    if different == "configuration":
        strange += ["--lr", "0.3"]
    elif different == "code":
        (own_data.folder / "program").mkdir()
        program = copied_program(own_data.folder / "program")
    else:
        root = own_data.folder / "other"
        root.mkdir()
        for folder in ("JPEGImages", "SegmentationClassAug"):
            (root / folder).symlink_to(own_data.data / folder)
        (root / "list").mkdir()
        for name in ("train_aug.txt", "val.txt"):
            lines = (own_data.data / "list" / name).read_text().splitlines(keepends=True)
            (root / "list" / name).write_text("".join(lines[1:]))
        strange += ["--data_root", str(root)]
    processes = [start_rank(0, port, REPOSITORY, own_data.options(*RUN)), start_rank(1, port, program, strange)]
    try:
        said = [process.communicate(timeout=60)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [2, 2], said
    for words in said:
        assert re.search(rf"error: .*: process 1 \(.*\) has another {different} than process 0 \(", words), said
    assert not list(own_data.folder.rglob("*.pth"))


def test_fewer_test_images_than_processes(trained: Workplace, own_data: Workplace):
    path = own_data.data / "list" / "val.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0])
    own_data.take_checkpoints(trained, 0)
    assert own_data.run("--step", 0, "--test", "--no-visualize") == 0
    alone = own_data.results().read_bytes()
    own_data.results().unlink()
    process = own_data.start("--step", 0, "--test", "--no-visualize", launcher=torchrun())
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert own_data.results().read_bytes() == alone

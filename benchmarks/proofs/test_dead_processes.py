"""Two processes: one that dies, one that was given something else, a stop of both. Nobody waits for ever."""

import os
import re
import shutil
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.workplace import REPOSITORY, Workplace, assert_same, ends_of, load, start_two, terminate

# Norms that do not look at their peers: the processes hold different statistics in the middle of an epoch.
RUN = ["--step", 0, "--batch_size", 2, "--crop_size", 32, "--norm_act", "abn"]
RUN += ["--save_minutes", 0.0001, "--no_visualize"]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Workplace:
    """The run of two processes that was left alone."""
    workplace = Workplace(tmp_path_factory.mktemp("calm"), shapes)
    assert ends_of(start_two(workplace, *RUN))[0] == [0, 0]
    return workplace


def require_outcome(workplace: Workplace, calm: Workplace) -> None:
    assert_same(load(workplace.checkpoint(0)), load(calm.checkpoint(0)))
    assert workplace.results().read_bytes() == calm.results().read_bytes()


def work_of_torchrun(folder: Path, arguments: list[str]) -> None:
    """A process of a run under torchrun, which leaves its number for us."""
    torch.set_num_threads(1)
    (folder / f"{os.environ['RANK']}.{os.environ['TORCHELASTIC_RESTART_COUNT']}").write_text(str(os.getpid()))
    if os.environ["GROUP_WORLD_SIZE"] == "2":
        leave = os._exit
        # The other machine asks to start again before this one notes that its process ends, which it would count.
        os._exit = lambda code: (time.sleep(5), leave(code))
    if code := Workplace.main(arguments):
        sys.exit(code)


@pytest.mark.parametrize("machines", [1, 2])
def test_after_a_death_torchrun_starts_all_again_from_the_checkpoint(
    calm: Workplace, workplace: Workplace, machines: int, monkeypatch: pytest.MonkeyPatch
):
    """What torchrun does with a function, whose start costs less than that of a program: see test_slurm.py for one.

    An agent stands for a machine. The other one counts no restart when it starts its process again.
    """
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", str(machines - 1))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    logs = [DefaultLogsSpecs(log_dir=str(workplace.folder / f"said{n}"), redirects=Std.ALL) for n in range(machines)]
    of_all = {"min_nodes": machines, "max_nodes": machines, "nproc_per_node": 2 // machines, "max_restarts": 1}
    of_all |= {"run_id": "any", "rdzv_backend": "c10d", "rdzv_endpoint": f"localhost:{port}"}
    configs = [LaunchConfig(**of_all, start_method="forkserver", logs_specs=of_it) for of_it in logs]
    agents = [elastic_launch(config, work_of_torchrun) for config in configs]
    pool = ThreadPoolExecutor(machines)
    runs = [pool.submit(agent, workplace.folder, workplace.options(*RUN)) for agent in agents]
    first = [workplace.folder / f"{rank}.0" for rank in (0, 1)]
    try:
        deadline = time.monotonic() + 120
        while not workplace.checkpoint(0).exists():
            assert not any(run.done() for run in runs) and time.monotonic() < deadline
            time.sleep(0.02)
        killed = [int(path.read_text()) for path in first]
        os.kill(killed[0], signal.SIGKILL)
        assert sorted(rank for run in runs for rank in run.result(timeout=60)) == [0, 1]
    except BaseException:
        for path in workplace.folder.glob("[01].[01]"):  # they may wait for each other, and torchrun for them
            with suppress(OSError):
                os.kill(int(path.read_text()), signal.SIGKILL)
        raise
    started = {path.name: int(path.read_text()) for path in workplace.folder.glob("[01].[01]")}
    assert len({*started.values(), *killed}) == 4
    said = "".join(path.read_text() for path in workplace.folder.glob("said*/**/stdout.log"))
    assert said.count("; resumes at epoch") == 1
    require_outcome(workplace, calm)


@pytest.mark.parametrize("victim", [0, 1])
def test_the_survivor_of_a_death_ends_with_one_line(workplace: Workplace, victim: int):
    processes = start_two(workplace, *RUN, "--epochs", 1000)
    workplace.wait_for(processes[0], workplace.checkpoint(0))
    processes[victim].kill()
    start = time.monotonic()
    codes, said = ends_of(processes)
    assert time.monotonic() - start < 60
    assert (codes[victim], codes[1 - victim]) == (-signal.SIGKILL, 1)
    line = "error: contact with another process was lost, which torchrun names below; the same command resumes "
    assert said[1 - victim].startswith(line) and said[1 - victim].count("\n") == 1, said
    load(workplace.checkpoint(0))


def test_a_stop_of_one_saves_in_all_processes_at_the_same_iteration(
    calm: Workplace, workplace: Workplace, capfd: pytest.CaptureFixture
):
    """One process alone resumes what two began if the batch is the same."""
    processes = start_two(workplace, *RUN)
    workplace.wait_for(processes[0], workplace.checkpoint(0))
    terminate(processes[1].pid)
    terminate(processes[1].pid)  # as torchrun does, after whoever told it and its processes
    codes, said = ends_of(processes)
    assert codes == [143, 143]
    line = r"stopped by SIGTERM: step 0 is saved at epoch \d, iteration \d+; the same command resumes there\n"
    assert all(re.fullmatch(line, words) for words in said) and said[0] == said[1], said
    state = load(workplace.checkpoint(0))["trainer_state"]
    assert not state["finished"] and len(state["processes"]) == 2
    statistics = [of_one["buffers"]["body.stem.norm.running_mean"] for of_one in state["processes"]]
    assert not statistics[0].equal(statistics[1])
    assert {path.suffix or path.name for path in workplace.folder.rglob(".*") if path.is_file()} == {".lock"}
    half = shutil.copy(workplace.checkpoint(0), workplace.folder / "half.pth")
    assert ends_of(start_two(workplace, *RUN))[0] == [0, 0]
    require_outcome(workplace, calm)
    alone = [*RUN, "--name", "alone", "--ckpt", half]
    assert workplace.run(*alone) == 2
    assert "--batch_size 4 then and 2 now" in capfd.readouterr().err
    assert workplace.run(*alone, "--batch_size", 4) == 0
    assert "was begun by 2 process(es) and is resumed by 1" in capfd.readouterr().out


def test_one_process_that_gives_up_says_why_and_the_other_ends(own_data: Workplace):
    line = (own_data.data / "list" / "train_aug.txt").read_text().splitlines()[0]
    image = own_data.data / line.split()[0].lstrip("/")
    image.write_bytes(image.read_bytes()[:1000])
    codes, said = ends_of(start_two(own_data, *RUN, "--epochs", 9))
    reader = codes.index(2)
    assert codes[1 - reader] == 1
    assert re.fullmatch(rf"error: image {image} cannot be read \(.*\); restore the file\n", said[reader]), said
    assert said[1 - reader].startswith("error: contact with another process was lost")
    assert said[1 - reader].count("\n") == 1


def with_code_of(program: Path, arguments: list[str]) -> int:
    """Run as if the files in `program` were those of the run."""
    import checkpoints

    checkpoints.__file__ = str(program / "checkpoints.py")
    return Workplace.main(arguments)


@pytest.mark.parametrize("different", ["configuration", "code", "data"])
def test_a_process_that_was_given_something_else_is_told_apart_at_the_start(own_data: Workplace, different: str):
    other: list[object] = []
    main = None
    if different == "configuration":
        other = ["--lr", 0.3]
    elif different == "code":
        program = own_data.folder / "program"
        program.mkdir()
        for path in REPOSITORY.glob("*.py"):
            (program / path.name).write_bytes(path.read_bytes() + b"# changed\n" * (path.name == "train.py"))
        for name in ("dataset", "methods", "metrics", "modules", "utils"):
            (program / name).symlink_to(REPOSITORY / name)
        main = partial(with_code_of, program)
    else:
        root = own_data.folder / "other"
        shutil.copytree(own_data.data, root)
        path = root / "list" / "val.txt"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
        other = ["--data_root", root]
    codes, said = ends_of(start_two(own_data, *RUN, other=other, main=main))
    assert codes == [2, 2], said
    for words in said:
        assert re.search(rf"^error: .*: process 1 has another {different} than process 0; ", words), said
    assert not list(own_data.folder.rglob("*.pth"))


def test_fewer_test_images_than_processes(calm: Workplace, own_data: Workplace):
    path = own_data.data / "list" / "val.txt"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    own_data.take_checkpoints(calm, 0)
    test = [*RUN, "--test"]
    assert own_data.run(*test) == 0
    alone = own_data.results().read_bytes()
    own_data.results().unlink()
    assert ends_of(start_two(own_data, *test))[0] == [0, 0]
    assert own_data.results().read_bytes() == alone


def test_processes_that_see_different_folders_are_told_so(workplace: Workplace):
    """At the start; one of them would wait for a checkpoint that the other has."""
    options = ("--step", 0, "--epochs", 1, "--no_visualize")
    codes, said = ends_of(start_two(workplace, *options, other=("--checkpoint", workplace.folder / "other")))
    assert codes == [2, 2]
    for of_process in said:
        assert "error: process 1 does not see what process 0 writes to" in of_process and "--checkpoint" in of_process
    assert not [path for path in workplace.files() if path.suffix == ".pth" or ".seen" in path.name]

"""scripts/slurm.sh: a job that is warned or preempted is saved, queued again and resumes; an array is a run a job.

srun and scontrol stand in for those of a cluster of one node; torchrun and the run are real unless said.
docs/CLUSTERS.md says what was tried with a real Slurm.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from argparser import parse
from benchmarks.scripts import borrowed_environment
from tests.workplace import REPOSITORY, Workplace, load

RUN = ("--step", 0, "--batch_size", 2, "--no_visualize")
SRUN = """#!/bin/sh
shift
exec "$@"
"""
SCONTROL = """#!/bin/sh
case $1 in
    show) if [ "$2" = job ]; then echo "   PreemptTime=$PREEMPTED"; else echo localhost; fi ;;
    requeue) echo "queued again: $2" ;;
esac
"""
TORCHRUN = f"""#!/bin/sh
exec {sys.executable} -m torch.distributed.run "$@"
"""


@pytest.fixture
def submit(workplace: Workplace):
    """submit(words...): the script as Slurm starts it, on one node with one process; with more `variables`."""
    environment = borrowed_environment(workplace.folder / "venv")
    for name, content in (("srun", SRUN), ("scontrol", SCONTROL), ("torchrun", TORCHRUN)):
        (environment / "bin" / name).write_text(content)
        (environment / "bin" / name).chmod(0o755)
    script = shutil.copy(REPOSITORY / "scripts" / "slurm.sh", workplace.folder / "slurm_script")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "VENV": str(environment),
        "SLURM_SUBMIT_DIR": str(REPOSITORY),
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NODELIST": "node[1]",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURMD_NODENAME": "localhost",
        "SLURM_NODEID": "0",
        "OPT_LEVEL": "O0",
        "PREEMPTED": "None",
        "MASTER_PORT": str(port),
        "CUDA_VISIBLE_DEVICES": "",
    }

    def start(*words: object, **more: str) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(["bash", script, *map(str, words)], env=os.environ | variables | more, **pipes)

    return start


def leave_with(workplace: Workplace, code: int) -> None:
    """A torchrun that says what it was given on standard error, and ends."""
    (workplace.folder / "venv" / "bin" / "torchrun").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >&2\nexit {code}\n')


def test_a_job_that_runs_out_of_time_is_queued_again_and_resumes(
    workplace: Workplace, submit, capfd: pytest.CaptureFixture
):
    job = submit("RCIL", "voc", "15-1", "overlap", *workplace.options(*RUN, "--save_minutes", 0.0001))
    out, err = workplace.end(job, workplace.checkpoint(0), lambda number: os.kill(number, signal.SIGUSR1))
    assert job.returncode == 0, err
    assert re.search(r"stopped by SIGUSR1: step 0 is saved at epoch \d, iteration \d+", err)
    assert out.endswith("out of time: job 17 is queued again, and resumes from its checkpoint\nqueued again: 17\n")
    assert not load(workplace.checkpoint(0))["trainer_state"]["finished"]
    # The same command, here, where it costs no start of the program.
    assert workplace.run(*RUN) == 0
    assert re.search(r"resumes at epoch \d, iteration \d+", capfd.readouterr().out)
    assert load(workplace.checkpoint(0))["trainer_state"]["finished"]


@pytest.mark.parametrize(
    ("code", "preempted", "queued"), [(0, "None", False), (3, "None", False), (0, "2022", False), (1, "2022", True)]
)
def test_only_a_job_that_another_one_ends_is_queued_again(
    workplace: Workplace, submit, code: int, preempted: str, queued: bool
):
    leave_with(workplace, code)
    job = submit("RCIL", "voc", "15-1", "overlap", "--lr", "-1", PREEMPTED=preempted)
    out, err = job.communicate(timeout=120)
    said = "preempted: job 17 is queued again, and resumes from its checkpoint\nqueued again: 17\n"
    assert (job.returncode, out) == ((0, said) if queued else (code, "")) and err.endswith("--lr\n-1\n")


ARRAY = ("FT RCIL", "voc", "15-1", "overlap")


def test_each_job_of_an_array_is_a_run_with_files_of_its_own(workplace: Workplace, submit):
    leave_with(workplace, 0)
    jobs = [submit(*ARRAY, "--lr", "0.1", SEEDS="42 43", SLURM_ARRAY_TASK_ID=str(number)) for number in range(4)]
    configs = []
    for job in jobs:
        _, err = job.communicate(timeout=120)
        configs.append(parse(err.partition("\nrun.py\n")[2].splitlines()).config)
    assert [(config.method_name, config.random_seed) for config in configs] == [
        *(("FT", 42), ("RCIL", 42), ("FT", 43), ("RCIL", 43))
    ]
    for name in ("checkpoint", "logdir", "results_dir"):
        assert len({(getattr(config, name), config.name) for config in configs}) == 4
    # What tools/compare.py wants: a folder a seed, in which a method has the same name.
    assert {config.results_dir.parts for config in configs} == {("runs", f"seed{n}", "results") for n in (42, 43)}
    assert {config.name for config in configs} == {"FT-overlap", "RCIL-overlap"}


@pytest.mark.parametrize("variables", [{}, {"SLURM_ARRAY_TASK_ID": "4"}])
def test_an_array_that_does_not_fit_is_refused(workplace: Workplace, submit, variables: dict[str, str]):
    leave_with(workplace, 0)
    job = submit(*ARRAY, SEEDS="42 43", **variables)
    out, err = job.communicate(timeout=120)
    assert (job.returncode, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: slurm.sh FT RCIL voc 15-1 overlap: ") and "--array 0-3" in err


def test_the_script_is_in_the_form_that_sbatch_reads():
    lines = (REPOSITORY / "scripts" / "slurm.sh").read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    # sbatch stops looking at the first command.
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [line for line in lines if line.startswith("#SBATCH")]
    assert asked == [line for line in lines[:first] if line.startswith("#SBATCH")] and len(asked) > 5
    subprocess.run(["bash", "-n", Path(REPOSITORY, "scripts", "slurm.sh")], check=True)

"""scripts/slurm.sh: the warning before the end of the job's time saves the run, which is queued again and resumes.

srun and scontrol stand in for those of a cluster of one node; torchrun and the run are real unless said.
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

from benchmarks.scripts import borrowed_environment
from tests.workplace import REPOSITORY, Workplace, load

RUN = ("--step", 0, "--batch_size", 2, "--no_visualize")
SRUN = """#!/bin/sh
shift
exec "$@"
"""
SCONTROL = """#!/bin/sh
case $1 in
    show) echo localhost ;;
    requeue) echo "queued again: $2" ;;
esac
"""
TORCHRUN = f"""#!/bin/sh
exec {sys.executable} -m torch.distributed.run "$@"
"""


@pytest.fixture
def submit(workplace: Workplace):
    """submit(options...): the script as Slurm starts it, on one node with one process."""
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
        "MASTER_PORT": str(port),
        "CUDA_VISIBLE_DEVICES": "",
    }

    def start(*options: object) -> subprocess.Popen:
        words = ["bash", script, *workplace.options(*RUN, *options)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, env=os.environ | variables, **pipes)

    return start


def test_a_job_that_runs_out_of_time_is_queued_again_and_resumes(
    workplace: Workplace, submit, capfd: pytest.CaptureFixture
):
    job = submit("--save_minutes", 0.0001)
    out, err = workplace.end(job, workplace.checkpoint(0), lambda number: os.kill(number, signal.SIGUSR1))
    assert job.returncode == 0, err
    assert re.search(r"stopped by SIGUSR1: step 0 is saved at epoch \d, iteration \d+", err)
    assert out.endswith("out of time: job 17 is queued again, and resumes from its checkpoint\nqueued again: 17\n")
    assert not load(workplace.checkpoint(0))["trainer_state"]["finished"]
    # The same command, here, where it costs no start of the program.
    assert workplace.run(*RUN) == 0
    assert re.search(r"resumes at epoch \d, iteration \d+", capfd.readouterr().out)
    assert load(workplace.checkpoint(0))["trainer_state"]["finished"]


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_that_ends_in_its_time_is_not_queued_again_and_a_failure_is_seen(workplace: Workplace, submit, code: int):
    (workplace.folder / "venv" / "bin" / "torchrun").write_text(f'#!/bin/sh\necho "$@" >&2\nexit {code}\n')
    job = submit("--lr", "-1")
    out, err = job.communicate(timeout=120)
    assert (job.returncode, out) == (code, "") and err.endswith("--lr -1\n")


def test_the_script_is_in_the_form_that_sbatch_reads():
    lines = (REPOSITORY / "scripts" / "slurm.sh").read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    # sbatch stops looking at the first command.
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [line for line in lines if line.startswith("#SBATCH")]
    assert asked == [line for line in lines[:first] if line.startswith("#SBATCH")] and len(asked) > 5
    subprocess.run(["bash", "-n", Path(REPOSITORY, "scripts", "slurm.sh")], check=True)

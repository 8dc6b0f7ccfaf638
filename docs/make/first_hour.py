"""Writes docs/FIRST_HOUR.md, a newcomer's path through README.md, by walking it: python docs/make/first_hour.py

Clones the checkout as it is committed, runs its commands there one after the other, and writes down what they say and
how long they take: about twenty minutes on two idle cores, and the packages are installed anew.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "FIRST_HOUR.md"
LINES = 14
"""Of what a command says; those in the middle are left out."""
TEXT = """# The first hour

Written by `python docs/make/first_hour.py`, which walks the README in a fresh clone, on {machine}.
Long outputs are shortened. The demo sets up its environment first; pip had all packages on the disk.
"""


def commands(readme: str) -> list[str]:
    """What a newcomer types: the demo, a picture, the worked example of own data, its pictures and report."""
    section = re.search(r"\n## Your own data\n.*?```sh\n(.*?)```", readme, re.DOTALL)[1]
    own = [line.split("  #")[0].strip() for line in re.sub(r"\\\n\s*", "", section).splitlines()]
    predict = re.search(r"`\.venv/bin/python (tools/predict\.py [^`]+)`", readme)[1]
    picture = "$(ls data/shapes/JPEGImages/*.jpg | head -1)"
    truth = "--truth data/mine/masks/val data/mine/images/val"
    return [
        "sh scripts/demo.sh",
        ". .venv/bin/activate",
        f"python {predict.replace('PICTURE', picture)}",
        *own,
        f"python tools/predict.py --ckpt checkpoints/step/15-5-folder_mine_1.pth {truth}",
        "python tools/report.py results/*_folder_15-5_mine.csv",
    ]


def walk(clone: Path, typed: list[str]) -> list[tuple[str, str, float]]:
    """Each command, what it said, and its seconds. CalledProcessError where one fails."""
    surroundings = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    surroundings["PATH"] = os.pathsep.join(
        folder for folder in surroundings["PATH"].split(os.pathsep) if str(ROOT) not in folder
    )
    told, activate = [], ""
    for command in typed:
        if command.startswith(". "):
            activate = f"{command} && "
        start = time.monotonic()
        done = subprocess.run(
            ["sh", "-c", activate + command],
            cwd=clone,
            env=surroundings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        print(f"{command}\n{done.stdout}", flush=True)
        done.check_returncode()
        told.append((command, done.stdout, time.monotonic() - start))
    return told


def shortened(said: str, clone: Path) -> str:
    """The first lines and the last ones, without the place of the clone."""
    # What pip warns of is about the machine.
    lines = [line for line in said.replace(str(clone), "~/rcil").strip().splitlines() if "WARNING: " not in line]
    if len(lines) > LINES:
        lines = [*lines[: LINES // 3], "...", *lines[-LINES + LINES // 3 :]]
    return "\n".join(line[:140] for line in lines)


def page(told: list[tuple[str, str, float]], clone: Path) -> str:
    """The page of a walk."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1]
    parts = [TEXT.format(machine=f"{os.cpu_count()} cores of an {model}, Python {sys.version.split()[0]}, no GPU")]
    for command, said, seconds in told:
        shown = f"```sh\n{command}\n```\n"
        if output := shortened(said, clone):
            shown += f"\n{_time(seconds)}:\n\n```\n{output}\n```\n"
        parts.append(shown)
    total = sum(seconds for *_, seconds in told)
    return "\n".join([*parts, f"All of it: {_time(total)}.\n"])


def _time(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s" if seconds >= 60 else f"{seconds:.0f} s"


def main() -> None:
    """Walk, and write."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "rcil"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        told = walk(clone, commands((clone / "README.md").read_text()))
        PAGE.write_text(page(told, clone))


if __name__ == "__main__":
    main()

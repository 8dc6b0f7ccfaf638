"""What a bug report has to say: the versions of all that a run depends on."""

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "inplace-abn")


def versions() -> str:
    """A line for this code, then one each for Python, the packages, and what PyTorch sees of the machine."""
    found = {"rcil": f"{own_version()}{commit()}", "python": f"{platform.python_version()}, {platform.platform()}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    cudnn = torch.backends.cudnn.version()
    found["cuda"] = f"{torch.version.cuda or 'none'}, cudnn {cudnn or 'none'}"
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found["devices"] = (
        ", ".join(gpus) or f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    )
    width = max(map(len, found))
    return "\n".join(f"{name:{width}}  {value}" for name, value in found.items())


def own_version() -> str:
    """That of pyproject.toml."""
    return re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]


def commit() -> str:
    """The commit of a checkout, and whether it was changed; nothing where git does not know."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f", commit {done.stdout.strip()}" if done.returncode == 0 else ""

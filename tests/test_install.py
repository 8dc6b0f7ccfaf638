"""The lists of packages, the image and the development container name what is there, and fit each other."""

import json
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements-lock.txt"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def requirements(path: Path) -> list[Requirement]:
    """All of a list, but for the lists that it includes."""
    lines = (line.split(" #")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


def test_the_lock_has_a_version_of_every_package_that_fits_for_every_python():
    locked = {}
    for line in requirements(LOCK):
        locked.setdefault(canonicalize_name(line.name), []).append(line)
    for path in sorted({*ROOT.glob("requirements*.txt")} - {LOCK}):
        for wanted in requirements(path):
            for minor in range(10, 15):
                python = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0"}
                found = [
                    line.specifier
                    for line in locked.get(canonicalize_name(wanted.name), [])
                    if line.marker is None or line.marker.evaluate(python)
                ]
                assert len(found) == 1, f"{wanted.name} on Python 3.{minor}: make {LOCK.name} anew, see its first lines"
                [version] = re.findall(r"^==([\w.]+)$", str(found[0]))
                assert wanted.specifier.contains(version), wanted


def test_the_image_has_the_cuda_of_the_locked_torch():
    [toolkit] = {str(line.specifier) for line in requirements(LOCK) if line.name == "cuda-toolkit"}
    [image] = re.findall(r"^FROM nvidia/cuda:(\d+\.\d+)\.", DOCKERFILE, re.MULTILINE)
    assert toolkit.startswith(f"=={image}.")


def test_the_image_copies_what_it_runs_and_the_container_sets_what_it_knows():
    copied = [name for names in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in names.split()]
    assert all([*ROOT.glob(name)] for name in copied)
    assert {*re.findall(r"^RUN .*\bsh (scripts/\S+\.sh)$", DOCKERFILE, re.MULTILINE)} <= {*copied}
    folder = ROOT / ".devcontainer"
    container = json.loads((folder / "devcontainer.json").read_text())
    assert (folder / container["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / container["build"]["context"]).resolve() == ROOT
    for name, value in container["build"]["args"].items():
        assert f"\nARG {name}=" in DOCKERFILE and (ROOT / value).is_file()
    python = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert f"\nENV VENV={Path(python).parents[1]} " in DOCKERFILE

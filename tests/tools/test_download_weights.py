"""tools/download_weights.py and pretrained/download.sh: weights whole and checked, or one line that says why not."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torchvision

from argparser import parse
from modules.imagenet import PUBLISHED
from tests.tools.archives_of_data import checksum
from tests.tools.file_server import FileServer
from tools.download_weights import main
from tools.downloads.published import Archive, WrongChecksum, require_checksum
from tools.downloads.weights import DEFAULT, WEIGHTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "pretrained" / "README.md").read_text()
CONTENT = bytes(range(256)) * 100
DIGITS = checksum(CONTENT).removeprefix("sha256:")
NAME, KEY = "resnet101_iabn_sync.pth.tar", "RESNET101_IABN_SYNC"


def offer(environment: pytest.MonkeyPatch, *sources: str, key: str = KEY, said: str = checksum(CONTENT)) -> None:
    environment.setenv(f"{key}_URL", " ".join(sources))
    environment.setenv(f"{key}_SUM", said)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def error_of(capsys: pytest.CaptureFixture, *arguments: str | Path) -> str:
    """The one line that the tool fails with."""
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("download: ") and message.count("\n") == 1
    return message


def test_the_default_comes_whole_and_once(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    server.cuts = [10_000]
    offer(monkeypatch, server.url("gone"), server.serve("weights", CONTENT))
    for _ in range(2):
        assert main(["--folder", str(tmp_path)]) == 0
        assert files_in(tmp_path) == {NAME: CONTENT}
    assert server.asked == [None, None, "bytes=10000-"]
    line = capsys.readouterr().out.splitlines()[-1]
    options = parse(shlex.split(line.split("with: ")[1])).config.model
    assert options.backbone == "resnet101" and options.pretrained == tmp_path / NAME


def test_several_names_and_a_prefix_of_a_sha256(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    offer(monkeypatch, server.serve("a", CONTENT), key="RESNET50_V1", said=f"sha256-prefix:{DIGITS[:8]}")
    offer(monkeypatch, server.serve("b", CONTENT), key="RESNET50_V2")
    assert main(["resnet50_v1", "resnet50_v2", "--folder", str(tmp_path)]) == 0
    assert files_in(tmp_path) == {"resnet50-0676ba61.pth": CONTENT, "resnet50-11ad3fa6.pth": CONTENT}


def test_a_file_of_this_machine_is_copied_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mirror = tmp_path / "mirror"
    mirror.write_bytes(CONTENT)
    offer(monkeypatch, str(mirror))
    assert main(["--folder", str(tmp_path / "to")]) == 0
    assert files_in(tmp_path / "to") == {NAME: CONTENT} and mirror.read_bytes() == CONTENT


def test_no_source_serves(server: FileServer, tmp_path: Path, monkeypatch, capsys):
    """A page instead of the file, and a file with another checksum: the line says where to get it and to put it."""
    server.content_type = "text/html"
    monkeypatch.setenv(f"{KEY}_URL", server.serve("page", CONTENT))
    message = error_of(capsys, "--folder", tmp_path)
    assert "the answer is a web page" in message and f"{KEY}_URL" in message
    assert (
        f"save it from https://github.com/mapillary/inplace_abn#training-on-imagenet-1k as {tmp_path / NAME}" in message
    )
    server.content_type = "application/octet-stream"
    message = error_of(capsys, "--folder", tmp_path)
    assert re.search("has checksum md5:[0-9a-f]{32}, not md5:1552ae0f3d610108df702135f56bd27b", message)
    assert files_in(tmp_path) == {}


def test_a_name_or_a_variable_of_no_use_ends_before_the_first_byte(server, tmp_path: Path, monkeypatch, capsys):
    offer(monkeypatch, server.serve("weights", CONTENT))
    message = error_of(capsys, DEFAULT, "resnet18", "--folder", tmp_path)
    assert "no weights resnet18: choose from resnet101_iabn_sync, resnet50_iabn_sync, resnet50_v1" in message
    monkeypatch.setenv("RESNET50_V1_SUM", "sha256-prefix:123")
    message = error_of(capsys, DEFAULT, "resnet50_v1", "--folder", tmp_path)
    assert "RESNET50_V1_SUM sha256-prefix:123: ALGORITHM:HEX with one of md5, sha1, sha256, sha256-prefix" in message
    assert not server.requests and files_in(tmp_path) == {}


def test_a_prefix_tells_another_file(tmp_path: Path):
    (tmp_path / "file").write_bytes(CONTENT)
    require_checksum(tmp_path / "file", Archive("KEY", "file", f"sha256-prefix:{DIGITS[:8]}"))
    for wrong in (f"{DIGITS[:7]}{'0' if DIGITS[7] != '0' else '1'}", DIGITS[8:16]):
        with pytest.raises(WrongChecksum, match=f"has checksum sha256:{DIGITS}, not sha256-prefix:{wrong}"):
            require_checksum(tmp_path / "file", Archive("KEY", "file", f"sha256-prefix:{wrong}"))


@pytest.mark.parametrize("name", WEIGHTS)
def test_what_is_published_is_well_formed_and_in_the_readme(name: str):
    archive, backbone = WEIGHTS[name]
    assert archive.configured({}) == archive and name.startswith(backbone)
    kind, digits = archive.checksum.split(":")
    told = f"{kind} `{digits}`" if kind == "md5" else f"sha256 begins `{digits}`"
    [row] = [line for line in README.splitlines() if line.startswith(f"| `{name}` | `{archive.name}` |")]
    assert row.endswith(f"| {told} |")
    if kind != "md5":
        weights = torchvision.models.get_model_weights(backbone)[f"IMAGENET1K_V{name[-1]}"]
        assert archive.sources == (weights.url,) and f"IMAGENET1K_V{name[-1]}" in row


def test_what_a_run_advises_is_there():
    assert all(WEIGHTS[name].backbone == backbone for backbone, name in PUBLISHED.items())


def test_the_commands_of_the_readme_run(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for key in (KEY, "RESNET50_V2"):
        offer(monkeypatch, server.serve("weights", CONTENT), key=key)
    for path in ("scripts", "tools", "utils", "requirements.txt", "requirements-data.txt"):
        (tmp_path / path).symlink_to(ROOT / path)
    (tmp_path / "pretrained").mkdir()
    (tmp_path / "pretrained" / "download.sh").write_bytes((ROOT / "pretrained" / "download.sh").read_bytes())
    # An environment that is there: nothing is installed.
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    lists = "".join((ROOT / name).read_text() for name in ("requirements.txt", "requirements-data.txt"))
    (tmp_path / ".venv" / "requirements-data.txt.installed").write_text(lists)
    block = re.search(r"```sh\n(.*?)```", README, re.DOTALL)[1]
    subprocess.run(["sh", "-ec", block], cwd=tmp_path, check=True, capture_output=True)
    assert {path.name for path in (tmp_path / "pretrained").iterdir()} == {
        "download.sh",
        NAME,
        "resnet50-11ad3fa6.pth",
    }

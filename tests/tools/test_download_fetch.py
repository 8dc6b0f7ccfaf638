"""tools/downloads/fetch.py: however a download is cut off, it ends with the published file or with none."""

from pathlib import Path

import numpy as np
import pytest

from tests.tools.archives_of_data import checksum
from tests.tools.conftest import enlarge
from tests.tools.file_server import FileServer
from tools.downloads.fetch import fetch
from tools.downloads.published import Archive
from utils.errors import UserError

CONTENT = np.random.default_rng(0).bytes(700_000)


@pytest.fixture(autouse=True)
def offered(server: FileServer) -> None:
    server.serve("file", CONTENT)


def archive(*sources: str, content: bytes = CONTENT) -> Archive:
    return Archive("KEY", "file", checksum(content), sources)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_that_is_there_is_not_asked_for(server: FileServer, tmp_path: Path):
    for _ in range(2):
        assert fetch(archive(server.url("file")), tmp_path) == tmp_path / "file"
        assert files_in(tmp_path) == {"file": CONTENT}
    assert server.asked == [None]


def test_a_lost_connection_is_taken_up_where_it_was_lost(server: FileServer, tmp_path: Path):
    server.cuts = [300_000, 100_000]
    fetch(archive(server.url("file")), tmp_path)
    assert files_in(tmp_path) == {"file": CONTENT}
    assert server.asked == [None, "bytes=300000-", "bytes=400000-"]


def test_a_server_without_ranges_starts_over(server: FileServer, tmp_path: Path):
    server.ranges = False
    server.cuts = [300_000]
    fetch(archive(server.url("file")), tmp_path)
    assert files_in(tmp_path) == {"file": CONTENT}
    assert server.asked == [None, "bytes=300000-"]


def test_a_part_that_is_whole_is_only_checked(server: FileServer, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    fetch(archive(server.url("file")), tmp_path)
    assert files_in(tmp_path) == {"file": CONTENT}
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_connection_that_brings_nothing_is_given_up_and_the_part_kept(server: FileServer, tmp_path: Path):
    server.cuts = [5000] + 10 * [0]
    with pytest.raises(UserError, match=r"the connection ended after 5000 of 700000 bytes.*run the same command again"):
        fetch(archive(server.url("file")), tmp_path)
    assert files_in(tmp_path) == {"file.part": CONTENT[:5000]}
    assert len(server.requests) == 1 + 1 + 1  # twice in the first round, once in the second


def test_a_wrong_checksum_leaves_nothing_to_go_on_from(server: FileServer, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        fetch(archive(server.url("file"), content=b"other"), tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for said in (
        "file could not",
        server.url("file"),
        checksum(CONTENT),
        checksum(b"other"),
        "another source in KEY_URL",
    ):
        assert said in message
    assert files_in(tmp_path) == {} and len(server.requests) == 1


def test_a_file_brought_by_hand_is_checked_and_not_deleted(server: FileServer, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(UserError, match=rf"{checksum(b'mine')}, not {checksum(CONTENT)}: delete it, or set KEY_SUM"):
        fetch(archive(server.url("file")), tmp_path)
    assert files_in(tmp_path) == {"file": b"mine"} and not server.requests


def test_the_next_source_serves_where_one_is_dead_or_has_another_file(server: FileServer, tmp_path: Path):
    other = server.serve("other", b"another file")
    dead = ["http://127.0.0.1:9/refused", server.url("missing"), other]
    fetch(archive(*dead, server.url("file")), tmp_path)
    assert files_in(tmp_path) == {"file": CONTENT}
    assert [path for path, _ in server.requests] == ["/missing", "/other", "/file"]


def test_the_reason_of_each_source_is_told(server: FileServer, tmp_path: Path):
    dead = ["http://127.0.0.1:9/refused", server.url("missing")]
    with pytest.raises(UserError, match=rf"{dead[0]}: .*refused.*; {dead[1]}: HTTP Error 404") as caught:
        fetch(archive(*dead), tmp_path)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1  # what is not there is not asked for again


def test_a_web_page_does_not_replace_what_came(server: FileServer, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    server.content_type, server.ranges = "text/html", False
    with pytest.raises(UserError, match="the answer is a web page"):
        fetch(archive(server.url("file")), tmp_path)
    assert files_in(tmp_path) == {"file.part": CONTENT[:1000]}


@pytest.mark.parametrize("lengths", [True, False])
def test_a_full_disk_is_told_and_what_came_is_kept(server: FileServer, small_disk: Path, lengths: bool):
    (small_disk / "file.part").write_bytes(CONTENT[:1000])
    server.lengths = lengths
    with pytest.raises(UserError) as caught:
        fetch(archive(server.url("file")), small_disk)
    message = str(caught.value)
    assert "\n" not in message and "run the same command again" in message
    # A length that is told is compared with the disk before the first byte.
    kept = (small_disk / "file.part").stat().st_size
    assert kept == 1000 if lengths else 300_000 < kept < 500_000
    assert (
        f"{'406kB' if lengths else '0.00B'} is free, the rest of file {'takes 699kB' if lengths else 'is longer'}"
        in message
    )
    enlarge(small_disk)
    fetch(archive(server.url("file")), small_disk)
    assert files_in(small_disk) == {"file": CONTENT} and server.asked[-1] == f"bytes={kept}-"


def test_a_file_of_this_machine_is_a_source_that_stays(tmp_path: Path):
    (tmp_path / "mirror").write_bytes(CONTENT)
    assert fetch(archive(str(tmp_path / "mirror")), tmp_path / "archives") == tmp_path / "mirror"
    assert files_in(tmp_path) == {"mirror": CONTENT}


def test_the_environment_replaces_sources_and_checksum():
    known = Archive("KEY", "file", checksum(b""), ("http://known",))
    assert known.configured({"OTHER_URL": "http://a"}) == known
    changed = known.configured({"KEY_URL": " http://a  https://b ", "KEY_SUM": "MD5:" + 32 * "A"})
    assert changed == Archive("KEY", "file", "md5:" + 32 * "a", ("http://a", "https://b"))


@pytest.mark.parametrize("variable", ["KEY_URL=file:///etc/passwd", "KEY_URL=ftp://a", "KEY_URL=/not/there"])
def test_a_source_of_another_kind_is_refused(variable: str):
    with pytest.raises(UserError, match=r"^KEY_URL .*: neither http://"):
        Archive("KEY", "file", checksum(b"")).configured(dict([variable.split("=")]))


@pytest.mark.parametrize("text", ["abc", "md5:abc", "sha256:" + 64 * "g", "crc32:" + 8 * "0", ":"])
def test_a_checksum_that_is_none_is_refused(text: str):
    with pytest.raises(UserError, match=r"^KEY_SUM .*ALGORITHM:HEX with one of md5, sha1, sha256"):
        Archive("KEY", "file", checksum(b"")).configured({"KEY_SUM": text})

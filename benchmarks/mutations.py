"""Ways of breaking a file: its bytes in, other bytes out, all of them drawn from one random.Random."""

import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random

import numpy as np

Way = Callable[[Random, bytes, Sequence[bytes]], bytes]
"""(random, a valid or broken file, all valid files of its kind) -> a broken file."""

LARGEST = 250_000
"""Bytes; what takes seconds to read is then no matter of length alone."""
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 9_999, 100_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

WORDS = (
    *(
        b"\0",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xc3",
        b"\xef\xbb\xbf",
        b"\x1b[2J",
        b"\x7f",
        b"\t",
        b"\r",
        b"\r\n",
        b"\n\n",
    ),
    *("\x85".encode(), "\u2028".encode(), "\u00a0".encode(), "\u0663".encode(), "²".encode(), "👩\u200d🚀".encode()),
    *(b"../../../../../../../../etc/passwd", b"../../../../../../../../dev/zero", b"/", b"..", b".", b"//etc//passwd"),
    *(b"/JPEGImages/pipe.jpg /SegmentationClassAug/pipe.png", b"/JPEGImages/loop.jpg", b"/JPEGImages/folder.jpg", b"~"),
    *(b"-1", b"0", b"1", b"255", b"256", b"1e999", b"nan", b"inf", b"0x1", b"1_0", b"9" * 5_000, b"0." + b"3" * 9_999),
    *(b"x", b"X", b"#", b"#ffffff", b"#gggggg", b"'", b'"', b",", b",,,,", b"%s%n", b"$(touch gone)", b"{0}", b"\\"),
    *(b"a" * 300, b"a" * 200_000, b"a b" * 50_000, b" " * 100_000, b"1," * 100_000, b"1\n" * 5_000, b"," * 200_000),
)
"""What turns up in texts that nobody expected: other encodings, controls, paths, numbers, marks, great lengths."""


def broken(random: Random, content: bytes, valid: Sequence[bytes], ways: Sequence[Way]) -> bytes:
    """`content` after one to four `ways`, mostly one; now and then as it is."""
    for _ in range(random.choice((0, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4))):
        content = random.choice(ways)(random, content, valid)
    return content[:LARGEST]


def flip_bits(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """One to eight bits."""
    changed = bytearray(content or b"\0")
    for _ in range(random.randint(1, 8)):
        changed[_place(random, changed)] ^= 1 << random.randrange(8)
    return bytes(changed)


def set_bytes(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """A few bytes in a row: zeros, ones, or noise."""
    start, count = _place(random, content), random.randint(1, 8)
    new = random.choice((b"\0" * count, b"\xff" * count, random.randbytes(count)))
    return content[:start] + new + content[start + count :]


def set_number(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """A number of two or four bytes where one may have been: a size, a count, an offset."""
    start, size = _place(random, content), random.choice((2, 4))
    number = random.choice((*NUMBERS, len(content), random.randrange(1 << 32)))
    new = (number % (1 << 8 * size)).to_bytes(size, random.choice(("little", "big")))
    return content[:start] + new + content[start + size :]


def cut(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """The end is missing, or the start."""
    where = random.randint(0, len(content))
    return content[where:] if random.random() < 0.2 else content[:where]


def insert(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """Noise, zeros or the unexpected, somewhere."""
    where, count = _place(random, content), random.randint(1, 64)
    new = random.choice((random.randbytes(count), b"\0" * count, random.choice(WORDS)))
    return content[:where] + new + content[where:]


def remove(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """A piece is missing."""
    where = _place(random, content)
    return content[:where] + content[where + random.randint(1, 64) :]


def repeat(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """A piece comes again and again."""
    start = _place(random, content)
    end = start + random.randint(1, 200)
    return content[:end] + content[start:end] * random.choice((1, 2, 10, 300)) + content[end:]


def splice(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """The start of this file and the end of another."""
    other = random.choice(valid)
    return content[: _place(random, content)] + other[_place(random, other) :]


def swap_header(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """The first bytes of another file in front of the rest of this one."""
    count = random.choice((2, 4, 8, 16, 33, 64))
    return random.choice(valid)[:count] + content[count:]


def insert_word(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """The unexpected in the place of a word of a text, or beside it."""
    start = _place(random, content)
    end = start + random.choice((0, 0, 1, len((content[start:].split() or [b""])[0])))
    return content[:start] + random.choice(WORDS) + content[end:]


def swap_lines(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """The lines of a text in another order, one of them twice, or one left out."""
    lines = content.split(b"\n")
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    lines[first], lines[second] = random.choice(
        ((lines[second], lines[first]), (lines[first], lines[first]), (b"", lines[second]))
    )
    return b"\n".join(lines)


def change_member(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """Another member of a zip with its checksum right, so that what unpacks it gets to see the change."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # broken already, in one of the many ways that there are
        return content
    if not members:
        return content
    name = random.choice(sorted(members))
    members[name] = random.choice(BYTES)(random, members[name], [*members.values()])
    return _zipped(members, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def change_array(random: Random, content: bytes, valid: Sequence[bytes]) -> bytes:
    """Another member of a zip of arrays is whole, but of a strange shape or type."""
    arrays = [
        np.zeros(random.choice(((), (0,), (3,), (3, 32), (32, 3), (3, 33), (4, 32), (3, 2), (2, 3, 32)))),
        np.array("text"),
        np.array([b"bytes"]),
        np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        np.array([np.nan, np.inf], np.float32),
        np.array(["2024-01-01"], dtype="datetime64[D]"),
    ]
    array = random.choice(arrays)
    if array.dtype == float:
        array = array.astype(random.choice((np.uint8, np.int8, np.int64, bool, np.float16, complex, ">u2")))
    file = io.BytesIO()
    np.save(file, array)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # as above
        return content
    return _zipped(members | {random.choice(sorted(members) or ["a.npy"]): file.getvalue()}, zipfile.ZIP_STORED)


BYTES: tuple[Way, ...] = (flip_bits, set_bytes, set_number, cut, insert, remove, repeat, splice, swap_header)
"""For files of any kind."""
TEXT: tuple[Way, ...] = (
    *BYTES,
    insert_word,
    insert_word,
    insert_word,
    insert_word,
    insert_word,
    swap_lines,
    swap_lines,
)
ARRAYS: tuple[Way, ...] = (*BYTES, *(change_member,) * 6, *(change_array,) * 4)


def with_checksums(content: bytes) -> bytes:
    """A PNG with the checksum of each chunk right, so that more than the checksum is put to the test; else as it is."""
    if not content.startswith(PNG_MAGIC):
        return content
    parts, at = [PNG_MAGIC], len(PNG_MAGIC)
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if end + 4 > len(content):
            break
        parts += [content[at:end], zlib.crc32(content[at + 4 : end]).to_bytes(4, "big")]
        at = end + 4
    return b"".join((*parts, content[at:]))


def _place(random: Random, content: bytes | bytearray) -> int:
    """A position, in half of all cases one of the first 64, where headers are."""
    end = max(1, len(content))
    return random.randrange(min(end, 64) if random.random() < 0.5 else end)


def _zipped(members: dict[str, bytes], compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()

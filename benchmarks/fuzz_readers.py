"""No timing: broken files of every kind for everything that reads a file of a user.

    python -m benchmarks.fuzz_readers                       # a minute
    python -m benchmarks.fuzz_readers --seconds 3600 --seed 7

A reader may take a file, or refuse it with a UserError of one line. Anything else is a fault: another exception, a
result of the wrong form, more than five seconds, the end of the process. Exit code 1 if there was one; the files that
led to faults are kept. A seed draws the same files again.
"""

import argparse
import faulthandler
import logging
import math
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.harness import RESULTS
from benchmarks.mutations import broken, with_checksums
from benchmarks.readers import Reader, readers
from utils.errors import UserError

SECONDS_PER_FILE = 5
LONGEST_MESSAGE = 10_000
"""Characters: a path may be long, but a message does not repeat a file."""
UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""What ends a line, or what a terminal takes for something else than text. A tab is neither."""
KEPT = 20
"""Files of faults at most."""


class Outcome(NamedTuple):
    """What became of one file."""

    number: int
    reader: str
    accepted: bool
    fault: str = ""


@dataclass
class Report:
    """What became of all files."""

    inputs: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    faults: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count a file."""
        self.inputs[outcome.reader] += 1
        self.accepted[outcome.reader] += outcome.accepted
        if outcome.fault:
            self.faults.append(outcome)

    def lines(self) -> Iterator[str]:
        """A table, and the faults."""
        faults = Counter(outcome.reader for outcome in self.faults)
        yield f"{'reader':<18}{'inputs':>10}{'accepted':>10}{'refused':>10}{'faults':>10}"
        for name, count in self.inputs.items():
            refused = count - self.accepted[name] - faults[name]
            yield f"{name:<18}{count:10,}{self.accepted[name]:10,}{refused:10,}{faults[name]:10,}"
        for outcome in self.faults:
            yield f"file {outcome.number}, {outcome.reader}: {outcome.fault}"


def fuzz(
    all_readers: Sequence[Reader], root: Path, seed: int, *, seconds: float = math.inf, inputs: float = math.inf
) -> Report:
    """Feed broken files to `all_readers`, in `root`, until seconds or inputs are used up.

    In a process of its own, which may end: another one then goes on with the next file.
    """
    report = Report(Counter({reader.name: 0 for reader in all_readers}))
    number, deadline = 0, time.monotonic() + seconds
    context = multiprocessing.get_context("fork")  # which need not import torch again
    while number < inputs and time.monotonic() < deadline:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_feed, args=(theirs, all_readers, root, seed, number, inputs, deadline))
        child.start()
        theirs.close()  # else its end would not be noticed
        with suppress(EOFError):
            while True:
                report.add(ours.recv())
                number += 1
        child.join()
        if child.exitcode:
            reader, _ = draw(all_readers, seed, number)
            told = (root / "stderr").read_text(errors="replace")[:2000]
            report.add(Outcome(number, reader.name, False, f"the process ended with {child.exitcode}: {told}"))
            number += 1
    return report


def _feed(
    connection: Connection,
    all_readers: Sequence[Reader],
    root: Path,
    seed: int,
    number: int,
    inputs: float,
    deadline: float,
) -> None:
    """Tell `connection` what becomes of each file from `number` on. One that takes too long ends the process."""
    logging.disable()
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    with open(root / "stderr", "w") as stderr:
        os.dup2(stderr.fileno(), 2)  # the codecs have much to say about such files
        faulthandler.enable(stderr)
        while number < inputs and time.monotonic() < deadline:
            stderr.seek(0)
            stderr.truncate()  # to what is said of this file
            reader, content = draw(all_readers, seed, number)
            put(Random(f"place {seed} {number}"), root / reader.path, content, pipes=reader.pipes)
            faulthandler.dump_traceback_later(SECONDS_PER_FILE, exit=True, file=stderr)
            accepted, fault = attempt(reader, root)
            faulthandler.cancel_dump_traceback_later()
            connection.send(Outcome(number, reader.name, accepted, fault))
            number += 1


def draw(all_readers: Sequence[Reader], seed: int, number: int) -> tuple[Reader, bytes]:
    """File `number` of `seed`, and who is to read it."""
    random = Random(f"{seed} {number}")
    reader = random.choice(all_readers)
    content = broken(random, random.choice(reader.valid), reader.valid, reader.ways)
    return reader, with_checksums(content) if random.random() < 0.7 else content


def put(random: Random, path: Path, content: bytes, *, pipes: bool) -> None:
    """Write the file; once in a hundred times something is there that is none."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if random.random() < 0.99:
        path.write_bytes(content)
        return
    kinds = ["nothing", "folder", "circle", "device", *["pipe"] * pipes]
    match random.choice(kinds):
        case "folder":
            path.mkdir()
        case "circle":
            path.symlink_to(path.name)
        case "device":
            path.symlink_to(os.devnull)
        case "pipe":
            os.mkfifo(path)


def attempt(reader: Reader, root: Path) -> tuple[bool, str]:
    """Whether the file is accepted, and the fault, if any."""
    try:
        found = reader.read(root)
        if reader.is_right(found):
            return True, ""
        return False, f"a result of another form: {str(found)[:300]!r}"
    except UserError as error:
        text = str(error)
        if not text or UNPRINTABLE.search(text) or len(text) > LONGEST_MESSAGE:
            return False, f"a message of {len(text)} characters that is no line: {text[:300]!r}"
        return False, ""
    except Exception as error:
        return False, f"{type(error).__name__}: {str(error)[:300]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if there was a fault."""
    parser = argparse.ArgumentParser("benchmarks.fuzz_readers", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "fuzz", help="folder for the files that led to faults")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        all_readers = readers(Path(folder))
        report = fuzz(all_readers, Path(folder), options.seed, seconds=options.seconds)
        print("\n".join(report.lines()))
    for outcome in report.faults[:KEPT]:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{options.seed}-{outcome.number}-{outcome.reader}"
        path.write_bytes(draw(all_readers, options.seed, outcome.number)[1])
        print(f"kept: {path}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())

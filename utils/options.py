"""Words of a command line and what they mean, for run.py and the tools."""

import argparse
import math
import sys
from pathlib import Path
from typing import NoReturn


class ToolParser(argparse.ArgumentParser):
    """That of a tool: one line for what it cannot read, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message} (--help lists all options)", file=sys.stderr)
        sys.exit(2)


def a_path(word: str) -> Path:
    """Not "", which a variable of a script that was never set leaves, and which would mean the current folder."""
    if not word.strip() or any(ord(letter) < 32 for letter in word):
        raise argparse.ArgumentTypeError(f"{word!r} is no path; name one, or leave the option out")
    return Path(word)


def a_png(word: str) -> Path:
    """A file whose name says what is written."""
    path = a_path(word)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{word!r} is to be a PNG: give it a name that ends in .png")
    return path


def a_float(word: str) -> float:
    """Not nan, which passes any comparison, and not inf."""
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{word!r} is no finite number")
    return number

"""The logger: who speaks, and how."""

import logging

import pytest
from tqdm import tqdm

from utils.log import log, setup_logging


@pytest.fixture(autouse=True)
def restore():
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.propagate = before[0], before[2]
    log.setLevel(before[1])


def say_all() -> None:
    log.debug("detail")
    log.info("news %d", 5)
    log.warning("care")


@pytest.mark.parametrize(
    ("is_main", "debug", "said"),
    [
        (True, False, "news 5\nwarning: care\n"),
        (True, True, "debug: detail\nnews 5\nwarning: care\n"),
        (False, True, "warning: care\n"),
    ],
)
def test_levels(capsys, is_main, debug, said):
    setup_logging(is_main, debug)
    say_all()
    assert capsys.readouterr().out == said


def test_setting_up_twice_says_everything_once(capsys):
    setup_logging(True)
    setup_logging(True)
    logging.getLogger().addHandler(other := logging.StreamHandler())
    try:
        log.info("once")
    finally:
        logging.getLogger().removeHandler(other)
    out, err = capsys.readouterr()
    assert out == "once\n" and err == ""


def test_lines_stay_whole_beside_a_bar(capsys):
    setup_logging(True)
    for _ in tqdm(range(3), mininterval=0, disable=False):
        log.info("a line")
    assert capsys.readouterr().out.count("a line\n") == 3

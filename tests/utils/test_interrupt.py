"""Signals stop at once, or when what must not be cut in two is done."""

import os
import signal

import pytest

from utils.stopping import SIGNALS, Interrupts, Stopped


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_stops_at_once_and_where_that_is_saved_says_so(signum: int):
    before = signal.getsignal(signum)
    with pytest.raises(Stopped) as caught, Interrupts() as interrupts, interrupts.saved(lambda: "step 1 is saved"):
        send(signum)
        raise AssertionError("not stopped")
    assert (caught.value.signum, caught.value.where) == (signum, "step 1 is saved")
    assert caught.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is before


def test_a_deferred_signal_waits_for_the_end_of_the_block():
    reached = []
    with Interrupts() as interrupts:
        with interrupts.deferred():
            send(signal.SIGTERM)
            reached.append(interrupts.pending)
        with pytest.raises(Stopped) as caught:
            interrupts.obey()
        with pytest.raises(Stopped) as after, interrupts.saved(lambda: "step 1 is saved"):
            raise AssertionError("not stopped")
    assert reached == [signal.SIGTERM] and caught.value.signum == signal.SIGTERM
    assert (after.value.signum, after.value.where) == (signal.SIGTERM, "step 1 is saved")


def test_signals_that_follow_at_once_are_the_same_request():
    saved = []

    def save() -> str:
        send(signal.SIGINT)
        saved.append("whole")
        return "step 1 is saved"

    with Interrupts() as interrupts, interrupts.deferred():
        send(signal.SIGTERM)
        send(signal.SIGINT)
        saved.append("first")
    assert (interrupts.pending, saved) == (signal.SIGTERM, ["first"])
    with pytest.raises(Stopped) as caught, Interrupts() as interrupts, interrupts.saved(save):
        send(signal.SIGTERM)
    assert (caught.value.signum, caught.value.where, saved) == (signal.SIGTERM, "step 1 is saved", ["first", "whole"])


def test_one_that_comes_later_is_in_a_hurry(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("utils.stopping.ECHO", 0)
    with pytest.raises(Stopped) as caught, Interrupts() as interrupts, interrupts.deferred():
        send(signal.SIGTERM)
        send(signal.SIGINT)
        raise AssertionError("not stopped")
    assert caught.value.signum == signal.SIGINT
    with pytest.raises(Stopped) as caught, Interrupts() as interrupts, interrupts.saved(lambda: send(signal.SIGINT)):
        send(signal.SIGTERM)
    assert caught.value.signum == signal.SIGINT


def test_an_error_is_not_hidden_by_a_signal_that_follows_it():
    with Interrupts() as interrupts:
        with pytest.raises(ValueError), interrupts.deferred():
            send(signal.SIGTERM)
            raise ValueError
        with pytest.raises(ValueError), interrupts.deferred():
            raise ValueError


def test_without_a_signal_nothing_happens_and_the_next_block_defers_too():
    with Interrupts() as interrupts:
        with interrupts.deferred():
            pass
        interrupts.obey()
        with pytest.raises(Stopped):
            send(signal.SIGINT)

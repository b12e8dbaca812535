"""Signals that stop a run: which ones, how often, and what stays as it was."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from muhdi.errors import STOP_SIGNALS, Interrupted
from muhdi.recipe.load import load_recipe
from muhdi.run.directory import RunDirectory
from muhdi.run.signals import note_signal, noted_signals
from muhdi.training.stage import StageTrainer
from muhdi.workflows.train import train
from tests.workflows.test_train import assert_same_run

Tiny = Callable[..., Path]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_every_signal_saves_and_stops_and_the_resumed_run_ends_in_the_same_bits(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    recipe = load_recipe(tiny(), ["evaluation.statistics=[running]", "runtime.save_every=100"])
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(recipe, whole, quiet=True)
    original = StageTrainer.iterate
    done = 0

    def iterate(self, *arguments):
        nonlocal done
        done += 1
        if done == 5:
            send(number)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "iterate", iterate)
        with pytest.raises(Interrupted) as stop:
            train(recipe, stopped, quiet=True)
    assert stop.value.signum == number
    newest = RunDirectory.of(recipe, stopped).states.files()[0]
    assert newest.name == "training_state_5.pt"
    train(recipe, stopped, resume=True, quiet=True)
    assert_same_run(whole, stopped, recipe)


def test_the_signals_are_those_of_people_terminals_and_clusters() -> None:
    expected = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}
    assert set(STOP_SIGNALS) == expected


def test_a_second_ctrl_c_acts_at_once() -> None:
    with noted_signals() as received:
        send(signal.SIGINT)
        assert received == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_closed_terminal_may_send_its_signal_more_than_once() -> None:
    with noted_signals() as received:
        send(signal.SIGHUP)
        send(signal.SIGHUP)
        send(signal.SIGTERM)
        assert received == [signal.SIGHUP, signal.SIGHUP, signal.SIGTERM]


def test_what_nohup_ignores_stays_ignored() -> None:
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with noted_signals() as received:
            send(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert received == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, usual)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with noted_signals():
        send(signal.SIGTERM)
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_in_another_thread_signals_stay_as_they_are() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    seen = []

    def listen() -> None:
        with noted_signals() as received:
            seen.append([signal.getsignal(number) for number in STOP_SIGNALS] == before)
            note_signal(signal.SIGPIPE)
            seen.append(received)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [True, [signal.SIGPIPE]]


def test_a_noted_signal_without_a_run_is_nothing() -> None:
    note_signal(signal.SIGPIPE)
    with noted_signals() as received:
        assert received == []

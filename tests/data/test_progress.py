"""What the terminal shows while a start or a run takes long, and at the end of a run."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from contextlib import contextmanager

from data.progress import terminal_patience, terminal_progress
from data.records import Progress
from learner.runs.telling import TrainingBar, json_line


def test_what_takes_long_is_said_at_once_and_again_while_it_lasts(capfd):
    with terminal_patience("Loading", every=0.02):
        assert capfd.readouterr().out == "Loading ...\n"
        time.sleep(0.1)
    assert capfd.readouterr().out.startswith("Loading ... 0 s\n")


def test_a_report_is_one_line_whatever_a_model_said():
    said = {"after": "a\u2028b\x85c\x1dd 好"}
    assert json_line(said).splitlines() == [json_line(said)] and json.loads(json_line(said)) == said


@contextmanager
def terminal(monkeypatch):
    """Standard error is a terminal of 120 columns; yields what tells the lines that a person sees on it, each as it was drawn last."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    drawn = b""
    with open(theirs, "w", encoding="utf-8", buffering=1) as stderr, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)

        def lines() -> list[str]:
            nonlocal drawn
            while select.select([ours], [], [], 0.1)[0]:
                drawn += os.read(ours, 65_536)
            return [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in drawn.decode().split("\n") if line]

        yield lines
    os.close(ours)


def test_a_run_shows_stage_step_figures_and_time_left_on_one_line_of_a_terminal(monkeypatch):
    with terminal(monkeypatch) as lines:
        with TrainingBar() as bar:
            bar.show(Progress("reference", 0, 0))
            assert lines()[0].startswith("reference: 0step")
            bar.show(Progress("train", 2, 8, loss=0.25, reward=-0.125, kl=0.0314, seconds_left=75.4))
            assert re.fullmatch(r"train 75 s left:  25%\|\S* *\| 2/8 \[.*, loss=0\.250, reward=-0\.125, kl=0\.031\]", lines()[0])
            bar.show(Progress("train", 8, 8, loss=0.125, reward=0.5, kl=0.04, seconds_left=0.0))
        [last] = lines()
        assert last.startswith("train 0 s left: 100%|") and " 8/8 " in last


def test_a_run_shows_no_bar_where_there_is_no_terminal(capfd):
    with TrainingBar() as bar:
        bar.show(Progress("train", 2, 8, loss=0.25, seconds_left=75.4))
    assert capfd.readouterr() == ("", "")


def test_a_download_fills_one_bar_and_what_follows_it_has_one_of_its_own(monkeypatch):
    with terminal(monkeypatch) as lines, terminal_progress() as progress:
        progress("model.whl", 25_000_000, 100_000_000)       # an earlier start brought these
        assert re.match(r"model\.whl:  25%\|.* 25\.0M/100M ", lines()[0])
        time.sleep(0.15)                                     # a bar is drawn ten times a second at most
        progress("model.whl", 75_000_000, 100_000_000)
        [bar] = lines()
        assert re.match(r"model\.whl:  75%\|.* 75\.0M/100M ", bar)
        progress("checking", 0, 0)
        first, second = lines()
        assert first.startswith("model.whl:  75%|") and second.startswith("checking: 0.00B ")

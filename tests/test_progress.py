"""What the terminal shows while a start takes long, and at the end of a run."""

import json
import time

from data.progress import terminal_patience
from learner.telling import json_line


def test_what_takes_long_is_said_at_once_and_again_while_it_lasts(capfd):
    with terminal_patience("Loading", every=0.02):
        assert capfd.readouterr().out == "Loading ...\n"
        time.sleep(0.1)
    assert capfd.readouterr().out.startswith("Loading ... 0 s\n")


def test_a_report_is_one_line_whatever_a_model_said():
    said = {"after": "a\u2028b\x85c\x1dd 好"}
    assert json_line(said).splitlines() == [json_line(said)] and json.loads(json_line(said)) == said

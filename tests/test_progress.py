"""What the terminal shows while a start takes long."""

import time

from data.progress import terminal_patience


def test_what_takes_long_is_said_at_once_and_again_while_it_lasts(capfd):
    with terminal_patience("Loading", every=0.02):
        assert capfd.readouterr().out == "Loading ...\n"
        time.sleep(0.1)
    assert capfd.readouterr().out.startswith("Loading ... 0 s\n")

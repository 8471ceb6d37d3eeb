"""A value that many ask for is found out by one of them, and not all the time."""

import threading
import time

import pytest

from data.cached import SHARE, Cached


def test_finding_it_out_takes_no_more_than_its_share_of_the_time_however_often_it_is_asked():
    found = []
    count = Cached(lambda: found.append(time.sleep(0.02)) or len(found))
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        count()
    assert 1 <= len(found) <= 1.0 / (SHARE * 0.02) + 1
    count.forget()
    assert count() == len(found)


def test_it_becomes_as_old_as_it_may_in_any_case():
    answers = iter(range(5))
    count = Cached(lambda: next(answers), least_seconds=0.2)
    assert [count(), count()] == [0, 0]
    time.sleep(0.25)
    assert count() == 1


def test_who_asks_while_it_is_found_out_is_told_what_was_found_before_and_only_the_first_ones_wait():
    begun, go_on, answers = threading.Event(), threading.Event(), iter(range(5))

    def find():
        answer = next(answers)
        if answer == 1:
            begun.set()
            go_on.wait(30)
        return answer

    count, told = Cached(find), []
    assert count() == 0
    count.forget()
    finding = threading.Thread(target=lambda: told.append(count()))
    finding.start()
    begun.wait(30)
    assert count() == 0
    go_on.set()
    finding.join(30)
    assert told == [1]

    slow, seen = Cached(lambda: time.sleep(0.2) or next(answers)), []
    asking = [threading.Thread(target=lambda: seen.append(slow())) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(30)
    assert seen == [2] * 8


def test_an_error_is_not_kept():
    answers = [OSError("busy"), 7]

    def find():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    count = Cached(find)
    with pytest.raises(OSError, match="busy"):
        count()
    assert count() == 7

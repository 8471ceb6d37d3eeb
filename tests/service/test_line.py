"""The line before a busy chat service: how many are answered at once, who waits, who is refused, and in which order."""

import threading
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from data.errors import Busy
from tests.support.service_fixtures import Server, finished
from tests.support.waiting import until


def test_one_reply_at_a_time_in_a_conversation_and_a_bounded_number_in_all(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=8000, max_streams=2, max_waiting=0)
    try:
        first = server.service.send("me", None, "one")
        with pytest.raises(Busy, match="still being written"):
            server.service.send("me", first.conversation_id, "two")
        second = server.service.send("you", None, "one")
        with pytest.raises(Busy, match="2 places"):
            server.service.send("they", None, "one")
        for rater, job in (("me", first), ("you", second)):
            server.service.stop(rater, job.conversation_id)
            finished(job)
        assert server.service.send("they", None, "one").error is None
    finally:
        server.close()


def test_who_comes_later_waits_in_line_and_is_answered_in_order_by_the_version_of_that_moment(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=8000, max_streams=1)
    try:
        first, second, third, fourth = (server.service.send(f"person {n}", None, "a long story") for n in range(4))
        assert [job.place for job in (first, second, third, fourth)] == [0, 1, 2, 3]
        until(lambda: first.text)
        assert not second.text and server.store.reply(second.reply_id).state == "streaming"
        number = server.publish(seed=1)
        until(lambda: server.serving.version == number)
        server.service.stop("person 2", third.conversation_id)                     # gave up waiting
        finished(third)
        assert third.text == "" and server.store.reply(third.reply_id).finish_reason == "cancelled"
        assert (second.place, fourth.place) == (1, 2) and second.version == 0
        server.service.stop("person 0", first.conversation_id)
        until(lambda: second.text)
        stored = server.store.reply(second.reply_id)
        assert (second.version, stored.version, stored.adapter_sha256) == (number, number, server.store.version(number).sha256)
        assert fourth.place == 1
        server.service.stop("person 1", second.conversation_id)
        until(lambda: fourth.text)
    finally:
        server.close()


def test_64_people_at_once_are_all_answered_in_order_the_65th_hears_busy_and_nothing_is_left_behind(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=20, max_streams=8, max_waiting=56)
    try:
        first_in = [server.service._line.join() for _ in range(8)]              # whoever came before: nobody's turn comes yet
        with ThreadPoolExecutor(64) as people:
            jobs = sorted(people.map(lambda n: server.service.send(f"person {n}", None, f"question {n}"), range(64)), key=lambda job: job.place)
        assert [job.place for job in jobs] == list(range(1, 65))
        with pytest.raises(Busy, match="64 places"):
            server.service.send("one too many", None, "hello")
        assert server.store.conversations("one too many") == []
        for ticket in first_in:
            ticket.leave()
        worker, busiest = server.serving.engine._workers[0], 0
        while not all(job.done for job in jobs):
            busiest = max(busiest, len(worker._streams))
            sleep(0.001)
        assert all(job.error is None and server.store.reply(job.reply_id).finish_reason == "length" for job in jobs)
        assert 1 < busiest <= 8
        begun = [job._begun for job in jobs]
        assert all(sum(other > mine for other in begun[:place]) < 8 for place, mine in enumerate(begun))    # the eight whose turn it is wake up as they like
        until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("reply ")])
        assert server.service._line._tickets == [] and worker._streams == {} and server.service.running(jobs[0].conversation_id) is None
        assert finished(server.service.send("one too many", None, "hello")).error is None
    finally:
        server.close()


def test_who_takes_their_share_of_the_places_hears_so_and_leaves_the_rest_to_others(endless_base, tmp_path):
    server = Server(endless_base, tmp_path, max_new_tokens=8000, max_streams=1, max_waiting=31)
    try:
        mine = [server.service.send("me", None, f"question {n}") for n in range(32 // 8)]
        with pytest.raises(Busy, match="You already have 4 replies under way"):
            server.service.send("me", None, "one more")
        assert len(server.store.conversations("me")) == 4
        yours = server.service.send("you", None, "hello")
        assert yours.place == 4
        server.service.stop("me", mine[3].conversation_id)
        finished(mine[3])
        assert server.service.send("me", None, "one more").place == 4 and yours.place == 3
    finally:
        server.close()

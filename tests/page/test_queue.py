"""The queue of calls, without a browser."""

import gradio as gr

from chat_app.page import launch_arguments, open_queue
from data.settings import Settings


def test_gradios_queue_still_has_the_pauses_that_are_lengthened_here():
    with gr.Blocks() as pages:
        pass
    pages.queue()
    theirs = pages._queue.sleep_when_free, pages._queue.progress_update_sleep_when_free
    open_queue(pages, max_size=3)
    ours = pages._queue.sleep_when_free, pages._queue.progress_update_sleep_when_free
    assert all(longer > shorter for longer, shorter in zip(ours, theirs, strict=True)) and pages._queue.max_size == 3


def test_every_reply_finds_room_for_the_script_that_asked_for_it_and_for_a_page_that_follows_it():
    at_once = lambda **settings: launch_arguments([], Settings(**settings))["max_threads"]
    assert at_once(max_streams=256, max_waiting=744) == 2 * 1000 + 64
    assert at_once(max_streams=1, max_waiting=0) == 200

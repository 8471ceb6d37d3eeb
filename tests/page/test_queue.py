"""The queue of calls, without a browser."""

import gradio as gr

from chat_app.page import open_queue


def test_gradios_queue_still_has_the_pauses_that_are_lengthened_here():
    with gr.Blocks() as pages:
        pass
    pages.queue()
    theirs = pages._queue.sleep_when_free, pages._queue.progress_update_sleep_when_free
    open_queue(pages, max_size=3)
    ours = pages._queue.sleep_when_free, pages._queue.progress_update_sleep_when_free
    assert all(longer > shorter for longer, shorter in zip(ours, theirs, strict=True)) and pages._queue.max_size == 3

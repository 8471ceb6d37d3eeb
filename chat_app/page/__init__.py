"""The pages people see: Python says what is true, scripts beside it draw it.

What a handler does is asked of the service, identity and maintenance it is given; nothing is stored here.
"""

from chat_app.page.build import build_pages, launch_arguments, open_queue

__all__ = ["build_pages", "launch_arguments", "open_queue"]

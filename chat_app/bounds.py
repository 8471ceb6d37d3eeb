"""What is not taken in over HTTP at all, so that no stranger fills the disk or the memory. Pure ASGI, so streams pass unbuffered."""

from __future__ import annotations

from gradio import processing_utils
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from data.settings import Settings

CLOSED = ("/gradio_api/upload", "/gradio_api/process_recording", "/gradio_api/deep_link")
"""Gradio's ways to leave a file on the server, open to everybody; no page here has one to send."""
MAX_BODY_BYTES = 1_000_000
"""Of one request, unless MAX_MESSAGE_CHARS allows a longer message ..."""
BYTES_A_CHARACTER = 12
"""... of which JSON makes this much at most, by two escapes; browsers send a third of it."""


def bounds(settings: Settings) -> list[Middleware]:
    """The outermost middleware: what it refuses reaches nobody."""
    return [Middleware(_Bounds, max_bytes=max(MAX_BODY_BYTES, BYTES_A_CHARACTER * settings.max_message_chars))]


def fetch_nothing() -> None:
    """Gradio fetches whatever address a call names as a file, of any size, before any component has looked at it; no call here takes one."""
    async def refuse(url: str, cache_dir: str) -> str:
        raise ValueError("No file is taken in here, also not by its address.")

    processing_utils.async_ssrf_protected_download = refuse


class _Bounds:
    def __init__(self, app, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if any(closed in scope["path"] for closed in CLOSED):         # also where a proxy serves us below another path
            return await PlainTextResponse("Nothing can be uploaded here.", status_code=404, headers={"connection": "close"})(scope, receive, send)
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        fits = not length.isdecimal() or int(length) <= self.max_bytes
        if fits and "transfer-encoding" in headers:                   # comes in pieces, of a length that nobody has said
            fits, receive = await self._taken_in(receive)
        if not fits:
            refusal = PlainTextResponse(f"A request may have {self.max_bytes:,} bytes at most.", status_code=413, headers={"connection": "close"})
            return await refusal(scope, receive, send)
        await self.app(scope, receive, send)

    async def _taken_in(self, receive):
        """Whether the whole body is short enough, and what hands it on. Handlers answer an error in the middle of a body in ways of their own."""
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self.max_bytes:
                return False, receive
            if not message.get("more_body"):
                break
        left = [message if message["type"] != "http.request" else {**message, "body": bytes(body)}]        # in one, however small the pieces were

        async def again():
            return left.pop() if left else await receive()

        return True, again

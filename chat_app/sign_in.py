"""The HTTP side of identity: the rater's cookie on the page, the maintainer's sign-in. Pure ASGI, so streams pass unbuffered."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from chat_app.identity import HOST_ONLY, KNOWN_MAINTAINER_SECONDS, RATER_SECONDS, Identity, cookies_of, is_https

log = logging.getLogger(__name__)

SECONDS_A_WRONG_ONE, MOST_SECONDS = 0.5, 10.0
"""An answer to a password is held back so long for every wrong one within a minute, and at most ..."""
MOST_WAITING = 20
"""... and so many at once: two guesses a second, however many guess. One more is not looked at."""
MAX_FORM_BYTES = 4096
PAGE_PATHS = ("/", "/maintainer")


class TooManyAtOnce(Exception):
    """Passwords that wait for their answer: this one was not looked at."""


class Guesses:
    """Passwords that are tried. The more were wrong, the longer each waits for its answer, the right one too: else its speed would tell it.

    After however many wrong ones the right one opens: were it refused unseen, whoever guesses would keep maintainers out. Used
    from one event loop alone, so without a lock.
    """

    def __init__(self, password: str, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._digest, self._sleep = _digest(password), sleep
        self._wrong: list[float] = []
        self._waiting = 0

    async def is_right(self, password: str) -> bool:
        """Raises: TooManyAtOnce."""
        if self._waiting >= MOST_WAITING:
            raise TooManyAtOnce
        self._wrong = [t for t in self._wrong if t > time.monotonic() - 60]
        seconds = min(SECONDS_A_WRONG_ONE * len(self._wrong), MOST_SECONDS)
        right = hmac.compare_digest(_digest(password), self._digest)
        if not right:
            self._wrong.append(time.monotonic())
        self._waiting += 1
        try:
            await self._sleep(seconds)
        finally:
            self._waiting -= 1
        return right


class Door:
    """Lets maintainers in: by password, or by a link that works once and was printed on the terminal.

    Never by network address: behind a reverse proxy everybody looks local.
    """

    def __init__(self, identity: Identity, password: str | None, announce: Callable[[str], None],
                 sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.identity, self.password, self._announce = identity, password, announce
        self._token: str | None = None
        self._lock = threading.Lock()
        # whoever was let in once waits among their like: a crowd that guesses is not before them
        self._guesses = {known: Guesses(password, sleep) for known in (False, True)} if password else None

    def announce_link(self) -> None:
        """Print a fresh one-time link when there is no password."""
        if self.password is None:
            with self._lock:
                self._token = secrets.token_urlsafe(24)
            self._announce(f"/sign-in?token={self._token}")

    def opens_for_token(self, token: str) -> bool:
        """Whether this is the one-time token, which is used up by that."""
        with self._lock:
            right = bool(self._token) and hmac.compare_digest(self._token.encode(), token.encode())
            self._token = None if right else self._token
            return right

    async def opens_for_password(self, password: str, cookies: Mapping[str, str]) -> bool:
        """Raises: TooManyAtOnce: it was not looked at."""
        return bool(self._guesses) and await self._guesses[self.identity.was_maintainer(cookies)].is_right(password)

    def middleware(self) -> list[Middleware]:
        return [Middleware(_DoorMiddleware, door=self)]


class _DoorMiddleware:
    def __init__(self, app, door: Door) -> None:
        self.app, self.door, self.identity = app, door, door.identity

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope, receive)
        path = scope["path"].rstrip("/") or "/"
        if request.method == "POST" and not _from_our_own_page(request):
            refusal = PlainTextResponse("This call came from another site's page; open the chat itself.", status_code=403)
            return await refusal(scope, receive, send)
        if path == "/sign-in":
            return await (await self._sign_in(request))(scope, receive, send)
        if path == "/sign-out" and request.method == "POST":
            response = _to_the_page(request)
            response.headers.append("set-cookie", self._cookie(request, self.identity.maintainer_cookie, "", 0))        # browsers delete only what is named as it was set
            return await response(scope, receive, send)
        if request.method == "GET" and path in PAGE_PATHS and (wanted := self.identity.cookies_at_visit(cookies_of(request))):
            cookies = [self._cookie(request, name, value, RATER_SECONDS if value else 0) for name, value in wanted.items()]

            async def send_with_cookies(message) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message["headers"], *((b"set-cookie", cookie.encode()) for cookie in cookies)]}
                await send(message)

            return await self.app(scope, receive, send_with_cookies)
        await self.app(scope, receive, send)

    async def _sign_in(self, request: Request) -> Response:
        if request.method == "POST":
            body = b""
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM_BYTES:
                    return PlainTextResponse("That is no sign-in form.", status_code=413)
            password = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
            try:
                allowed = await self.door.opens_for_password(password, cookies_of(request))
            except TooManyAtOnce:
                log.warning("A maintainer sign-in was refused unseen: %s others waited for their answer", MOST_WAITING)
                return _to_the_page(request, refused="wait")
        elif self.door.password is None and request.query_params.get("token"):
            allowed = self.door.opens_for_token(request.query_params["token"])
        else:
            return _to_the_page(request)
        if not allowed:
            log.warning("A maintainer sign-in was refused")
            return _to_the_page(request, refused="1")
        response = _to_the_page(request)
        response.headers.append("set-cookie", self._cookie(request, self.identity.maintainer_cookie, self.identity.signed_maintainer(), KNOWN_MAINTAINER_SECONDS))
        self.door.announce_link()
        return response

    def _cookie(self, request: Request, name: str, value: str, seconds: int) -> str:
        # Inside another site's frame (a Space) only a partitioned cookie arrives, and partitioning is also what keeps
        # that other site from using it; everywhere else Lax does both.
        prefix, place = (HOST_ONLY, "SameSite=None; Secure; Partitioned") if is_https(request) else ("", "SameSite=Lax")
        return f"{prefix}{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; {place}"


def _digest(password: str) -> bytes:
    """Of one length, which a comparison in constant time would else tell."""
    return hashlib.sha256(password.encode()).digest()


def _to_the_page(request: Request, **query: str) -> Response:
    """By a relative address, as the page's forms have: it may be served below another path."""
    up = "../" if request.url.path.endswith("/") else ""
    return RedirectResponse(f"{up}maintainer{'?' if query else ''}{urlencode(query)}", status_code=303)


def _from_our_own_page(request: Request) -> bool:
    """Whether a page of another origin cannot have sent this: cookies alone travel with a sibling's form as well.

    Browsers say where a request comes from in `Sec-Fetch-Site`, older ones only in `Origin`. A script says neither and
    has no cookies that somebody else could make use of.
    """
    site = request.headers.get("sec-fetch-site")
    if site:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    ours = (request.headers.get("host"), request.headers.get("x-forwarded-host"))
    return not origin or urlsplit(origin).netloc in ours

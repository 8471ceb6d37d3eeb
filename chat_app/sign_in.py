"""The HTTP side of identity: the rater's cookie on the page, the maintainer's sign-in. Pure ASGI, so streams pass unbuffered."""

from __future__ import annotations

import hmac
import logging
import secrets
import threading
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from chat_app.identity import MAINTAINER_SECONDS, RATER_SECONDS, Identity

log = logging.getLogger(__name__)

ATTEMPTS_A_MINUTE = 30
MAX_FORM_BYTES = 4096
MAINTAINER_PAGE = "/maintainer"


class TooManyWrong(Exception):
    """Passwords within a minute, from everybody together: not even a right one is looked at."""


class Door:
    """Lets maintainers in: by password, or by a link that works once and was printed on the terminal.

    Never by network address: behind a reverse proxy everybody looks local.
    """

    def __init__(self, identity: Identity, password: str | None, announce: Callable[[str], None]) -> None:
        self.identity, self.password, self._announce = identity, password, announce
        self._token: str | None = None
        self._wrong: list[float] = []
        self._lock = threading.Lock()

    def announce_link(self) -> None:
        """Print a fresh one-time link when there is no password."""
        if self.password is None:
            with self._lock:
                self._token = secrets.token_urlsafe(24)
            self._announce(f"/sign-in?token={self._token}")

    def opens_for(self, *, password: str | None = None, token: str | None = None) -> bool:
        """Whether the password, or the one-time token, is right. A right token is used up.

        Only passwords can be guessed, so only their attempts are counted: nobody can keep a link from working.

        Raises: TooManyWrong: it was not looked at.
        """
        with self._lock:
            if self.password is None:
                right = bool(self._token and token) and hmac.compare_digest(self._token.encode(), token.encode())
                self._token = None if right else self._token
                return right
            recent = [t for t in self._wrong if t > time.monotonic() - 60]
            self._wrong = recent
            if len(recent) >= ATTEMPTS_A_MINUTE:
                raise TooManyWrong
            if password and hmac.compare_digest(self.password.encode(), password.encode()):
                return True
            self._wrong.append(time.monotonic())
            return False

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
            response = RedirectResponse(MAINTAINER_PAGE, status_code=303)
            response.headers.append("set-cookie", self._cookie(request, self.identity.maintainer_cookie, "", 0))        # browsers delete only what is named as it was set
            return await response(scope, receive, send)
        if request.method == "GET" and path in ("/", MAINTAINER_PAGE) and (wanted := self.identity.cookies_at_visit(request.cookies)):
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
                allowed = self.door.opens_for(password=password)
            except TooManyWrong:
                log.warning("A maintainer sign-in was refused unseen: there were %s wrong passwords within a minute", ATTEMPTS_A_MINUTE)
                return RedirectResponse(f"{MAINTAINER_PAGE}?refused=wait", status_code=303)
        elif self.door.password is None and request.query_params.get("token"):
            allowed = self.door.opens_for(token=request.query_params["token"])
        else:
            return RedirectResponse(MAINTAINER_PAGE, status_code=303)
        if not allowed:
            log.warning("A maintainer sign-in was refused")
            return RedirectResponse(f"{MAINTAINER_PAGE}?refused=1", status_code=303)
        response = RedirectResponse(MAINTAINER_PAGE, status_code=303)
        response.headers.append("set-cookie", self._cookie(request, self.identity.maintainer_cookie, self.identity.signed_maintainer(), MAINTAINER_SECONDS))
        self.door.announce_link()
        return response

    def _cookie(self, request: Request, name: str, value: str, seconds: int) -> str:
        # Inside another site's frame (a Space) only a partitioned cookie arrives, and partitioning is also what keeps
        # that other site from using it; everywhere else Lax does both.
        https = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
        place = "SameSite=None; Secure; Partitioned" if https else "SameSite=Lax"
        return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; {place}"


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

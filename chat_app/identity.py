"""Who calls: a signed cookie for every person, another for maintainers. Every handler asks here."""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import secrets
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import gradio as gr
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request

from data.errors import NotAllowed
from data.sentences import said

UNKEYED_RATER_COOKIE = "rater"
"""What the rater's cookie was called before its name told the key."""
HOST_ONLY = "__Host-"
"""On https a cookie's name begins so: browsers take such a one from this host itself alone. Any other a sibling host may have set, to a cookie that was
given to its owner here: whoever carries that talks in the owner's name, who reads it all."""
RATER_SECONDS = 400 * 24 * 3600
"""As long as browsers keep a cookie ..."""
RENEW_SECONDS = 30 * 24 * 3600
"""... and at a visit it is signed anew once it is this old, so that who comes back is never forgotten."""
MAINTAINER_SECONDS = 12 * 3600
AHEAD_SECONDS = 60
"""How far ahead the clock of another server with this key may be for its maintainers to be signed in here. A person is known also by a cookie from far in
the future: the clock was wrong once, and who is not known again has lost all of theirs."""
KNOWN_MAINTAINER_SECONDS = RATER_SECONDS
"""For so long it is known of a browser that a maintainer signed in there, unless they signed out."""


def cookie_key(folder: Path) -> str:
    """The key that signs cookies, made once and kept readable by its owner alone, so that a restart forgets nobody."""
    path = folder / "cookie.key"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".cookie.key-") as file:      # 0600 from the start
            file.write(secrets.token_hex(32))
            file.flush()
            try:
                os.link(file.name, path)          # whole or not at all, and the first of two processes wins
            except FileExistsError:
                pass
    return path.read_text()


class Identity:
    """Reads and signs identities. `request` is a `gr.Request` or the raw Starlette request of a server function."""

    def __init__(self, key: str, maintainer_password: str | None = None) -> None:
        """Args: maintainer_password: what a maintainer's cookie was signed in with; under another password it is worth nothing."""
        self._key = key.encode()
        self._raters = URLSafeTimedSerializer(key, salt="rater")
        password = f" {hashlib.sha256(maintainer_password.encode()).hexdigest()}" if maintainer_password else ""
        self._maintainers = URLSafeTimedSerializer(key, salt=f"maintainer{password}")
        # cookies know no ports: by their names two servers on one host leave each other's alone
        name = hmac.new(self._key, b"name of the cookies", hashlib.sha256).hexdigest()[:8]
        self.rater_cookie, self.maintainer_cookie = f"rater_{name}", f"maintainer_{name}"

    def cookies_at_visit(self, cookies: Mapping[str, str]) -> dict[str, str]:
        """What to set where a page is opened with these cookies, by name; an empty value takes one away. Nothing while theirs will do."""
        if _load(self._raters, cookies.get(self.rater_cookie), RENEW_SECONDS, ahead=0):
            return {}
        renamed = {UNKEYED_RATER_COOKIE: ""} if _load(self._raters, cookies.get(UNKEYED_RATER_COOKIE), RATER_SECONDS) else {}       # another server's is left alone
        return {self.rater_cookie: self.signed_rater(self.rater_of(cookies) or secrets.token_hex(8)), **renamed}

    def signed_rater(self, rater: str) -> str:
        return self._raters.dumps(rater)

    def signed_maintainer(self) -> str:
        return self._maintainers.dumps("maintainer")

    def rater(self, request: gr.Request | Request) -> str:
        """The caller's rater id: the signed cookie's, else one that belongs to this client session alone.

        Raises: NotAllowed: the call carries neither.
        """
        rater = self.rater_of(cookies_of(request))
        if rater:
            return rater
        session = getattr(request, "session_hash", None)
        if session:
            # keyed, so that nobody can work out a rater id and nobody else's cookie can name this rater
            return "s" + hmac.new(self._key, session.encode(), hashlib.sha256).hexdigest()[:16]
        raise NotAllowed(said("no_identity"))

    def rater_of(self, cookies: Mapping[str, str]) -> str | None:
        """The rater these cookies name, or None when theirs is missing, forged or too old."""
        signed = (_load(self._raters, cookies.get(name), RATER_SECONDS) for name in (self.rater_cookie, UNKEYED_RATER_COOKIE))
        return next(filter(None, signed), None)

    def is_maintainer(self, request: gr.Request | Request) -> bool:
        return _load(self._maintainers, cookies_of(request).get(self.maintainer_cookie), MAINTAINER_SECONDS, ahead=AHEAD_SECONDS) == "maintainer"

    def was_maintainer(self, cookies: Mapping[str, str]) -> bool:
        """Whether a maintainer signed in with this browser once, however long ago, and did not sign out."""
        return _load(self._maintainers, cookies.get(self.maintainer_cookie), KNOWN_MAINTAINER_SECONDS) == "maintainer"

    def require_maintainer(self, request: gr.Request | Request) -> None:
        """Raises: NotAllowed: the caller is not signed in as a maintainer."""
        if not self.is_maintainer(request):
            raise NotAllowed(said("maintainers_only"))


def is_https(request: gr.Request | Request) -> bool:
    """As the browser sees it: a proxy may stand between."""
    return (getattr(request, "headers", None) or {}).get("x-forwarded-proto", getattr(getattr(request, "url", None), "scheme", "")) == "https"


def cookies_of(request: gr.Request | Request) -> dict[str, str]:
    """What the caller sent, by name; on https only what `HOST_ONLY` begins, without it."""
    cookies = dict(getattr(request, "cookies", None) or {})
    return {name.removeprefix(HOST_ONLY): value for name, value in cookies.items() if name.startswith(HOST_ONLY)} if is_https(request) else cookies


def _load(serializer: URLSafeTimedSerializer, value: str | None, max_age: int, ahead: float = math.inf) -> str | None:
    """What was signed at most `max_age` seconds ago, and at most `ahead` seconds from now."""
    try:
        loaded, signed_at = serializer.loads(value or "", return_timestamp=True)
    except BadSignature:
        return None
    return loaded if -ahead <= int(time.time()) - signed_at.timestamp() <= max_age else None

"""Who calls: a signed cookie for every person, another for maintainers. Every handler asks here."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

import gradio as gr
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request

from data.errors import NotAllowed
from data.sentences import said

RATER_COOKIE, MAINTAINER_COOKIE = "rater", "maintainer"
RATER_SECONDS = 400 * 24 * 3600
"""As long as browsers keep a cookie."""
MAINTAINER_SECONDS = 12 * 3600


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

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._raters = URLSafeTimedSerializer(key, salt="rater")
        self._maintainers = URLSafeTimedSerializer(key, salt="maintainer")

    def new_rater_cookie(self) -> str:
        return self._raters.dumps(secrets.token_hex(8))

    def maintainer_cookie(self) -> str:
        return self._maintainers.dumps("maintainer")

    def rater(self, request: gr.Request | Request) -> str:
        """The caller's rater id: the signed cookie's, else one that belongs to this client session alone.

        Raises: NotAllowed: the call carries neither.
        """
        cookie = self.rater_of_cookie(_cookies(request).get(RATER_COOKIE))
        if cookie:
            return cookie
        session = getattr(request, "session_hash", None)
        if session:
            # keyed, so that nobody can work out a rater id and nobody else's cookie can name this rater
            return "s" + hmac.new(self._key, session.encode(), hashlib.sha256).hexdigest()[:16]
        raise NotAllowed(said("no_identity"))

    def rater_of_cookie(self, value: str | None) -> str | None:
        """The rater a cookie names, or None when it is missing, forged or too old."""
        return _load(self._raters, value, RATER_SECONDS)

    def is_maintainer(self, request: gr.Request | Request) -> bool:
        return _load(self._maintainers, _cookies(request).get(MAINTAINER_COOKIE), MAINTAINER_SECONDS) == "maintainer"

    def require_maintainer(self, request: gr.Request | Request) -> None:
        """Raises: NotAllowed: the caller is not signed in as a maintainer."""
        if not self.is_maintainer(request):
            raise NotAllowed(said("maintainers_only"))


def _cookies(request: gr.Request | Request) -> dict[str, str]:
    return dict(getattr(request, "cookies", None) or {})


def _load(serializer: URLSafeTimedSerializer, value: str | None, max_age: int) -> str | None:
    try:
        return serializer.loads(value or "", max_age=max_age)
    except BadSignature:
        return None

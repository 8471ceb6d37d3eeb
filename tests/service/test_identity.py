import asyncio
import stat
import time
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from chat_app.identity import Identity, cookie_key
from chat_app.sign_in import MOST_SECONDS, MOST_WAITING, Door, TooManyAtOnce
from data.errors import NotAllowed
from tests.support.waiting import in_a_loop


def request(session_hash=None, **cookies):
    return SimpleNamespace(cookies=cookies, session_hash=session_hash)


@pytest.fixture
def identity() -> Identity:
    return Identity("a key for tests")


def site(identity: Identity, password: str | None = None, slept: list[float] | None = None):
    """A real ASGI site behind the door, a browser without its own cookies, and the links the door announced. `slept`: for how long answers were held back."""
    links: list[str] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    door = Door(identity, password, links.append, **({} if slept is None else {"sleep": sleep}))
    door.announce_link()

    def who(request):
        return PlainTextResponse(f"{identity.is_maintainer(request)}")

    app = Starlette(routes=[Route(path, who) for path in ("/", "/maintainer", "/other")], middleware=door.middleware())
    return TestClient(app, follow_redirects=False), links


def test_the_page_gives_a_person_a_cookie_once_and_knows_them_by_it(identity):
    browser, _ = site(identity)
    first = browser.get("/")
    assert "HttpOnly" in first.headers["set-cookie"] and "SameSite=Lax" in first.headers["set-cookie"]
    rater = identity.rater(request(**browser.cookies))
    assert "set-cookie" not in browser.get("/").headers
    assert rater == identity.rater(request(session_hash="anything", **browser.cookies))


def test_who_comes_back_within_the_400_days_of_a_cookie_is_the_same_person_for_ever(identity, monkeypatch):
    browser, _ = site(identity)
    today, days = time.time(), lambda count: count * 24 * 3600
    browser.get("/")
    rater, cookie = identity.rater(request(**browser.cookies)), dict(browser.cookies)
    signed = []
    for day in (1, 29, 31, 32, 400, 401, 799, 1198):
        monkeypatch.setattr(time, "time", lambda day=day: today + days(day))
        answer = browser.get("/")
        assert identity.rater(request(**browser.cookies)) == rater
        signed += [day] if "set-cookie" in answer.headers else []
    assert signed == [31, 400, 799, 1198]
    with pytest.raises(NotAllowed):
        identity.rater(request(**cookie))                               # of 1,198 days ago


def test_whom_a_clock_that_was_years_ahead_gave_a_cookie_is_the_same_person_when_it_is_right_again(identity, monkeypatch):
    browser, _ = site(identity, "secret")
    today = time.time()
    monkeypatch.setattr(time, "time", lambda: today + 3 * 365 * 24 * 3600)
    browser.get("/")
    browser.post("/sign-in", data={"password": "secret"})
    rater, early = identity.rater(request(**browser.cookies)), browser.cookies[identity.rater_cookie]
    monkeypatch.setattr(time, "time", lambda: today)
    assert identity.rater(request(**browser.cookies)) == rater
    assert browser.get("/other").text == "False", "twelve hours are not three years"
    browser.get("/")
    assert identity.rater(request(**browser.cookies)) == rater and browser.cookies[identity.rater_cookie] != early
    assert "set-cookie" not in browser.get("/").headers


def test_two_servers_on_one_host_leave_each_others_cookies_alone(identity):
    one, _ = site(identity, "secret")
    other, _ = site(Identity("another server's key"), "secret")
    other.cookies = one.cookies.jar                                     # the host is the same, and cookies know no ports
    seen = []
    for browser in (one, other, one, other):
        browser.get("/")
        browser.post("/sign-in", data={"password": "secret"})
        seen.append({name: value for name, value in browser.cookies.items() if name.startswith("rater")})
    assert seen[1] == seen[2] == seen[3] and seen[0].items() < seen[1].items()
    assert (one.get("/other").text, other.get("/other").text) == ("True", "True")


def test_a_cookie_from_before_its_name_told_the_key_is_renamed_and_another_servers_is_left_alone(identity):
    browser, _ = site(identity)
    browser.cookies.set("rater", identity.signed_rater("ann"), domain="testserver.local", path="/")
    assert identity.rater(request(**browser.cookies)) == "ann"
    browser.get("/")
    assert list(browser.cookies) == [identity.rater_cookie] and identity.rater(request(**browser.cookies)) == "ann"
    theirs = Identity("another server's key").signed_rater("bob")
    browser.cookies.set("rater", theirs, domain="testserver.local", path="/")
    browser.cookies.delete(identity.rater_cookie)
    browser.get("/")
    assert browser.cookies["rater"] == theirs and identity.rater(request(**browser.cookies)) not in ("ann", "bob")


def test_behind_https_the_cookie_is_partitioned_so_that_it_works_in_a_frame_and_nowhere_else(identity):
    browser, _ = site(identity)
    cookie = browser.get("/", headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert "SameSite=None; Secure; Partitioned" in cookie


def test_on_https_a_cookie_that_a_sibling_host_may_have_set_makes_nobody_somebody_else(identity):
    browser, _ = site(identity, "secret")
    browser.base_url = "https://testserver"
    for name, value in ((identity.rater_cookie, identity.signed_rater("eve")), ("rater", identity.signed_rater("eve")),
                        (identity.maintainer_cookie, identity.signed_maintainer())):
        browser.cookies.set(name, value, domain="testserver.local", path="/")
    given = browser.get("/").headers["set-cookie"]
    assert given.startswith(f"__Host-{identity.rater_cookie}=") and "; Path=/; " in given and "Secure" in given and "Domain" not in given
    on_https = SimpleNamespace(cookies=dict(browser.cookies), session_hash=None, headers={"x-forwarded-proto": "https"})
    rater = identity.rater(on_https)
    assert rater != "eve" and "set-cookie" not in browser.get("/").headers and identity.rater(on_https) == rater
    assert browser.get("/other").text == "False"
    browser.post("/sign-in", data={"password": "secret"})
    assert browser.get("/other").text == "True"
    browser.post("/sign-out")
    assert browser.get("/other").text == "False"


def test_a_forged_cookie_is_nobody_and_a_script_without_cookies_is_its_session(identity):
    forged = {identity.rater_cookie: Identity("another key").signed_rater("ann")}
    assert identity.rater(request("abc", **forged)) == identity.rater(request("abc"))
    assert identity.rater(request("abc")) != identity.rater(request("abd"))
    with pytest.raises(NotAllowed, match="allow cookies"):
        identity.rater(request(**forged))


def test_a_session_can_not_name_the_rater_of_a_cookie(identity):
    assert identity.rater(request(**{identity.rater_cookie: identity.signed_rater("ann")})) != identity.rater(request("ann"))


def test_a_rater_cookie_does_not_sign_a_maintainer_in(identity):
    assert not identity.is_maintainer(request(**{identity.maintainer_cookie: identity.signed_rater("maintainer")}))
    with pytest.raises(NotAllowed, match="sign in"):
        identity.require_maintainer(request("abc"))
    identity.require_maintainer(request(**{identity.maintainer_cookie: identity.signed_maintainer()}))


def test_the_right_password_signs_in_and_the_wrong_one_does_not(identity):
    browser, links = site(identity, "correct horse")
    assert links == []                                                  # with a password no link is ever printed
    assert browser.post("/sign-in", data={"password": "wrong"}).headers["location"] == "maintainer?refused=1"
    assert browser.get("/other").text == "False"
    assert browser.post("/sign-in", data={"password": "correct horse"}).headers["location"] == "maintainer"
    assert browser.get("/other").text == "True"
    browser.post("/sign-out")
    assert browser.get("/other").text == "False"


@pytest.mark.parametrize("headers", [{}, {"x-forwarded-proto": "https"}])
def test_signing_out_deletes_the_cookie_as_it_was_set(identity, headers):
    browser, _ = site(identity, "secret")
    given = browser.post("/sign-in", data={"password": "secret"}, headers=headers).headers["set-cookie"]
    taken = browser.post("/sign-out", headers=headers).headers["set-cookie"]
    attributes = lambda cookie: [part for part in cookie.split("; ")[1:] if not part.startswith("Max-Age")]
    assert attributes(taken) == attributes(given) and f"{identity.maintainer_cookie}=; " in taken and "Max-Age=0" in taken
    assert ("Partitioned" in taken) is bool(headers)


def test_the_printed_link_works_once_and_the_next_one_is_printed(identity):
    browser, links = site(identity)
    assert browser.get(links[0]).headers["location"] == "maintainer" and browser.get("/other").text == "True"
    second, _ = TestClient(browser.app, follow_redirects=False), None
    assert "refused" in second.get(links[0]).headers["location"] and second.get("/other").text == "False"
    assert len(links) == 2 and links[1] != links[0]
    assert second.get(links[1]).headers["location"] == "maintainer"


def test_an_empty_password_or_token_never_opens(identity):
    for password in (None, "secret"):
        browser, _ = site(identity, password)
        browser.post("/sign-in", data={"password": ""})
        browser.get("/sign-in?token=")
        browser.post("/sign-in")
        assert browser.get("/other").text == "False"


def test_a_changed_password_signs_everybody_out_and_no_browser_is_known_by_the_old_one(identity):
    def served_with(password: str | None) -> TestClient:
        return site(Identity("a key for tests", password), password)[0]

    browser = served_with("secret")
    browser.get("/")
    browser.post("/sign-in", data={"password": "secret"})
    rater = identity.rater_of(dict(browser.cookies))
    for password, signed_in in (("secret", True), ("another", False), (None, False)):
        later = served_with(password)
        later.cookies = browser.cookies.jar
        now = Identity("a key for tests", password)
        assert later.get("/other").text == str(signed_in) and now.was_maintainer(dict(browser.cookies)) is signed_in
        assert now.rater_of(dict(browser.cookies)) == rater


def test_guessing_is_slowed_down_and_the_right_password_opens_all_the_same_as_late_as_a_wrong_one(identity):
    slept: list[float] = []
    browser, _ = site(identity, "secret", slept)
    for _ in range(60):
        assert "refused=1" in browser.post("/sign-in", data={"password": "guess"}).headers["location"]
    assert slept[:4] == [0.0, 0.5, 1.0, 1.5] and slept == sorted(slept) and slept[-1] == MOST_SECONDS
    assert browser.post("/sign-in", data={"password": "secret"}).headers["location"] == "maintainer"
    assert browser.get("/other").text == "True" and slept[-1] == MOST_SECONDS


def test_so_many_wait_at_once_and_who_signed_in_with_this_browser_before_waits_for_none_of_them(identity, monkeypatch):
    async def crowd():
        opened = asyncio.Event()
        door = Door(identity, "secret", print, sleep=lambda seconds: opened.wait())
        guesses = [asyncio.create_task(door.opens_for_password("guess", {})) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyAtOnce):
            await door.opens_for_password("secret", {})
        known = [asyncio.create_task(door.opens_for_password(password, {identity.maintainer_cookie: stale})) for password in ("secret", "guess")]
        await asyncio.sleep(0)
        opened.set()
        assert not any(await asyncio.gather(*guesses)) and await asyncio.gather(*known) == [True, False]
        return await door.opens_for_password("secret", {})

    stale, today = identity.signed_maintainer(), time.time()
    monkeypatch.setattr(time, "time", lambda: today + 30 * 24 * 3600)
    assert not identity.is_maintainer(request(**{identity.maintainer_cookie: stale}))
    assert in_a_loop(crowd())                                         # when the others have gone their place is free


def test_signing_in_and_out_ends_on_the_page_also_where_it_is_served_below_another_path(identity):
    browser, _ = site(identity, "secret")
    inner = browser.app

    async def below(scope, receive, send):
        await inner({**scope, "path": scope["path"].removeprefix("/below")} if scope["type"] == "http" else scope, receive, send)

    browser = TestClient(below)
    for path, password in (("sign-in", "guess"), ("sign-in", "secret"), ("sign-in/", "secret"), ("sign-out", "")):
        ended = browser.post(f"/below/{path}", data={"password": password})
        assert ended.status_code == 200 and ended.url.path == "/below/maintainer"
    assert browser.get("/below/sign-in").url.path == "/below/maintainer"


def test_the_key_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    key = cookie_key(tmp_path)
    assert cookie_key(tmp_path) == key and len(key) == 64
    assert stat.S_IMODE((tmp_path / "cookie.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("headers, status", [
    ({"sec-fetch-site": "same-origin"}, 303), ({}, 303), ({"origin": "http://testserver"}, 303),
    ({"origin": "https://space.example", "x-forwarded-host": "space.example"}, 303),
    ({"sec-fetch-site": "cross-site"}, 403), ({"sec-fetch-site": "same-site"}, 403), ({"origin": "http://testserver:9999"}, 403), ({"origin": "null"}, 403),
])
def test_another_sites_page_can_post_nothing_in_a_maintainers_name(identity, headers, status):
    browser, _ = site(identity, "secret")
    assert browser.post("/sign-in", data={"password": "secret"}, headers=headers).status_code == status

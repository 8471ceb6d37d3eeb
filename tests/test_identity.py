import stat
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from chat_app.identity import Identity, cookie_key
from chat_app.sign_in import ATTEMPTS_A_MINUTE, Door
from data.errors import NotAllowed


def request(session_hash=None, **cookies):
    return SimpleNamespace(cookies=cookies, session_hash=session_hash)


@pytest.fixture
def identity() -> Identity:
    return Identity("a key for tests")


def site(identity: Identity, password: str | None = None):
    """A real ASGI site behind the door, a browser without its own cookies, and the links the door announced."""
    links: list[str] = []
    door = Door(identity, password, links.append)
    door.announce_link()

    def who(request):
        return PlainTextResponse(f"{identity.is_maintainer(request)}")

    app = Starlette(routes=[Route(path, who) for path in ("/", "/maintainer", "/other")], middleware=door.middleware())
    return TestClient(app, follow_redirects=False), links


def test_the_page_gives_a_person_a_cookie_once_and_knows_them_by_it(identity):
    browser, _ = site(identity)
    first = browser.get("/")
    assert "HttpOnly" in first.headers["set-cookie"] and "SameSite=Lax" in first.headers["set-cookie"]
    rater = identity.rater(request(rater=browser.cookies["rater"]))
    assert "set-cookie" not in browser.get("/").headers
    assert rater == identity.rater(request(session_hash="anything", rater=browser.cookies["rater"]))


def test_behind_https_the_cookie_is_partitioned_so_that_it_works_in_a_frame_and_nowhere_else(identity):
    browser, _ = site(identity)
    cookie = browser.get("/", headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert "SameSite=None; Secure; Partitioned" in cookie


def test_a_forged_cookie_is_nobody_and_a_script_without_cookies_is_its_session(identity):
    forged = Identity("another key").new_rater_cookie()
    assert identity.rater(request("abc", rater=forged)) == identity.rater(request("abc"))
    assert identity.rater(request("abc")) != identity.rater(request("abd"))
    with pytest.raises(NotAllowed, match="allow cookies"):
        identity.rater(request(rater=forged))


def test_a_session_can_not_name_the_rater_of_a_cookie(identity):
    cookie = identity.new_rater_cookie()
    assert identity.rater(request(rater=cookie)) != identity.rater(request(identity.rater(request(rater=cookie))))


def test_a_rater_cookie_does_not_sign_a_maintainer_in(identity):
    assert not identity.is_maintainer(request(maintainer=identity.new_rater_cookie()))
    with pytest.raises(NotAllowed, match="sign in"):
        identity.require_maintainer(request("abc"))
    identity.require_maintainer(request(maintainer=identity.maintainer_cookie()))


def test_the_right_password_signs_in_and_the_wrong_one_does_not(identity):
    browser, links = site(identity, "correct horse")
    assert links == []                                                  # with a password no link is ever printed
    assert browser.post("/sign-in", data={"password": "wrong"}).headers["location"] == "/maintainer?refused=1"
    assert browser.get("/other").text == "False"
    assert browser.post("/sign-in", data={"password": "correct horse"}).headers["location"] == "/maintainer"
    assert browser.get("/other").text == "True"
    browser.post("/sign-out")
    assert browser.get("/other").text == "False"


@pytest.mark.parametrize("headers", [{}, {"x-forwarded-proto": "https"}])
def test_signing_out_deletes_the_cookie_as_it_was_set(identity, headers):
    browser, _ = site(identity, "secret")
    given = browser.post("/sign-in", data={"password": "secret"}, headers=headers).headers["set-cookie"]
    taken = browser.post("/sign-out", headers=headers).headers["set-cookie"]
    attributes = lambda cookie: [part for part in cookie.split("; ")[1:] if not part.startswith("Max-Age")]
    assert attributes(taken) == attributes(given) and "maintainer=; " in taken and "Max-Age=0" in taken
    assert ("Partitioned" in taken) is bool(headers)


def test_the_printed_link_works_once_and_the_next_one_is_printed(identity):
    browser, links = site(identity)
    assert browser.get(links[0]).headers["location"] == "/maintainer" and browser.get("/other").text == "True"
    second, _ = TestClient(browser.app, follow_redirects=False), None
    assert "refused" in second.get(links[0]).headers["location"] and second.get("/other").text == "False"
    assert len(links) == 2 and links[1] != links[0]
    assert second.get(links[1]).headers["location"] == "/maintainer"


def test_an_empty_password_or_token_never_opens(identity):
    for password in (None, "secret"):
        browser, _ = site(identity, password)
        browser.post("/sign-in", data={"password": ""})
        browser.get("/sign-in?token=")
        browser.post("/sign-in")
        assert browser.get("/other").text == "False"


def test_guessing_is_slowed_down_for_everybody_and_the_right_password_is_not_called_wrong(identity):
    browser, _ = site(identity, "secret")
    for _ in range(ATTEMPTS_A_MINUTE):
        browser.post("/sign-in", data={"password": "guess"})
    assert browser.post("/sign-in", data={"password": "secret"}).headers["location"] == "/maintainer?refused=wait"
    assert browser.get("/other").text == "False"


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

"""What the server does not take in: files, and requests longer than any message. Over HTTP, the real app."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from chat_app.bounds import MAX_BODY_BYTES, bounds
from data.settings import Settings

FILE = b"--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a.txt\"\r\n\r\nhello\r\n--x--\r\n"


def answer(server, path: str, body, **headers: str) -> tuple[int, str]:
    """The status and the text of the answer to a POST; `body`: bytes, or pieces that are sent in chunks."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    chunks = not isinstance(body, bytes)
    try:
        connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()}, encode_chunked=chunks)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/upload?upload_id=a", "/below/gradio_api/upload", "/gradio_api/process_recording"])
def test_no_file_is_taken_in(chat_server, path):
    status, _ = answer(chat_server, path, FILE, content_type="multipart/form-data; boundary=x")
    assert status == 404


def test_no_address_of_a_file_is_fetched(chat_server):
    """The call fails before anybody is asked for the file: a name that does not exist would be told otherwise."""
    named = {"path": "https://nobody.invalid/10GB.bin", "meta": {"_type": "gradio.FileData"}}
    status, event = answer(chat_server, "/gradio_api/call/send", json.dumps({"data": [named, None, None, True]}).encode(), content_type="application/json")
    with urlopen(f"{chat_server.url}/gradio_api/call/send/{json.loads(event)['event_id']}", timeout=60) as told:
        assert status == 200 and "No file is taken in here" in told.read().decode()


def test_a_request_is_as_long_as_a_message_may_be_and_no_longer_also_when_it_comes_in_pieces(chat_server):
    call = lambda message: json.dumps({"data": [message]}).encode()
    path, kind = "/gradio_api/call/send", {"content_type": "application/json"}
    long, whole = call("x" * MAX_BODY_BYTES), call("x" * 19_000)
    pieces = lambda body: iter([body[:1000], body[1000:]])
    assert [answer(chat_server, path, body, **kind)[0] for body in (whole, pieces(whole), pieces(long))] == [200, 200, 413]
    status, words = answer(chat_server, path, b"{", **kind, content_length=str(MAX_BODY_BYTES + 1))      # is answered before it is sent
    assert (status, words) == (413, "A request may have 1,000,000 bytes at most.")


def test_a_server_that_allows_longer_messages_takes_in_longer_requests():
    [of_long], [of_default] = (bounds(Settings(max_message_chars=chars)) for chars in (1_000_000, 20_000))
    assert of_long.kwargs["max_bytes"] > 2 * len("\U0001f600".encode()) * 1_000_000 and of_default.kwargs["max_bytes"] == MAX_BODY_BYTES

"""What reaches the page of `instseg label`, and what does not."""

import json

import pytest
from starlette.responses import JSONResponse

from instseg.labelling.server.security import LARGEST_BODY, Guard, cookie_name, is_loopback, new_token

TOKEN = "a-token-of-the-test"
COOKIE = ("cookie", f"{cookie_name(TOKEN)}={TOKEN}")
ORIGIN = ("origin", "http://localhost:8765")


class Page:
    """An application that counts what reaches it, and reads all of it."""

    def __init__(self):
        self.requests = []

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.requests.append((scope["method"], scope["path"], body))
        await JSONResponse({"length": len(body)})(scope, receive, send)


@pytest.fixture
def page():
    return Page()


@pytest.fixture
def guard(page):
    return Guard(page, TOKEN)


def test_the_address_with_the_token_sets_a_cookie_and_leads_to_the_page(ask, guard, page):
    answer = ask(guard, "/", query=f"token={TOKEN}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].split("; ")
    assert cookie[0] == f"{cookie_name(TOKEN)}={TOKEN}"
    assert {part.lower() for part in cookie[1:]} == {"httponly", "path=/", "samesite=strict"}
    assert ask(guard, "/api/folder", headers=[("cookie", cookie[0])]).status == 200
    assert page.requests == [("GET", "/api/folder", b"")]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("cookie", f"{cookie_name(TOKEN)}=another")],
        [("cookie", f"{cookie_name(TOKEN)}=")],
        [("cookie", f"{cookie_name('another')}={TOKEN}")],
        [("cookie", "\x01;;;=")],
        [("authorization", f"Bearer {TOKEN}")],
    ],
)
def test_without_the_token_nothing_is_answered(ask, guard, page, headers):
    answer = ask(guard, "/api/folder", headers=headers)
    assert answer.status == 403
    assert "token" in json.loads(answer.body)["error"]
    assert page.requests == []


@pytest.mark.parametrize("query", ["token=another", "token=", "token=%C3%A9", "token=a&token=b"])
def test_a_wrong_token_sets_no_cookie(ask, guard, page, query):
    answer = ask(guard, "/", query=query)
    assert answer.status == 403
    assert "set-cookie" not in answer.headers
    assert page.requests == []


def test_the_token_opens_the_first_page_only(ask, guard):
    assert ask(guard, "/api/folder", query=f"token={TOKEN}").status == 403
    assert ask(guard, "/", method="POST", query=f"token={TOKEN}", headers=[ORIGIN]).status == 403


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "attacker.example:8765",
        "localhost.attacker.example:8765",
        "127.0.0.1.attacker.example",
        "localhost:8765@attacker.example",
        "localhost:87x5",
        "[::1].attacker.example",
        "192.168.0.7:8765",
        "",
    ],
)
def test_a_name_of_another_site_that_leads_here_is_refused(ask, guard, page, host):
    """DNS rebinding: the browser takes the server for the attacker's, and would let the attacker's page read all."""
    answer = ask(guard, "/api/folder", headers=[("host", host), COOKIE])
    assert answer.status == 403
    assert "name" in json.loads(answer.body)["error"]
    assert ask(guard, "/", query=f"token={TOKEN}", headers=[("host", host)]).status == 403
    assert page.requests == []


def test_two_hosts_are_refused(ask, guard):
    headers = [("host", "localhost"), ("host", "attacker.example"), COOKIE]
    assert ask(guard, "/api/folder", headers=headers).status == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8765", "LOCALHOST:9000", "[::1]:8765", "[::1]"])
def test_this_machine_may_be_called_by_all_of_its_names_and_through_tunnels(ask, guard, host):
    assert ask(guard, "/api/folder", headers=[("host", host), COOKIE]).status == 200


def test_other_names_are_taken_where_they_are_given(ask, page):
    guard = Guard(page, TOKEN, ["server.example", "127.0.0.1"])
    assert ask(guard, "/api/folder", headers=[("host", "Server.example:8765"), COOKIE]).status == 200
    assert ask(guard, "/api/folder", headers=[("host", "localhost:8765"), COOKIE]).status == 403


@pytest.mark.parametrize(
    ("host", "status"), [("192.168.0.7:8765", 200), ("[fe80::7]:8765", 200), ("attacker.example", 403), ("1.2.3", 403)]
)
def test_a_server_at_all_addresses_is_called_by_any_address_but_by_no_other_name(ask, page, host, status):
    guard = Guard(page, TOKEN, any_address=True)
    assert ask(guard, "/api/folder", headers=[("host", host), COOKIE]).status == status


@pytest.mark.parametrize(
    "origin", ["https://attacker.example", "http://localhost:9999", "http://localhost", "null", "http://127.0.0.1:8765"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_other_sites_may_not_ask(ask, guard, page, origin, method):
    answer = ask(guard, "/api/train", method=method, headers=[COOKIE, ("origin", origin)], body=b"{}")
    assert answer.status == 403
    assert page.requests == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_says_comes_from_another_site_is_refused(ask, guard, page, site):
    assert ask(guard, "/api/images/0/pixels/0/0/0", headers=[COOKIE, ("sec-fetch-site", site)]).status == 403
    assert page.requests == []
    # A link in another page may open this one, as only who knows the token can have made it. To be led on by a
    # redirection would be a request of that page, too, and refused.
    answer = ask(guard, "/", query=f"token={TOKEN}", headers=[("sec-fetch-site", site)])
    assert (answer.status, b'url=/"' in answer.body) == (200, True)
    assert answer.headers["set-cookie"].startswith(f"{cookie_name(TOKEN)}={TOKEN}; ")
    assert ask(guard, "/", query="token=another", headers=[("sec-fetch-site", site)]).status == 403


def test_a_change_needs_an_origin(ask, guard, page):
    assert ask(guard, "/api/train", method="POST", headers=[COOKIE], body=b"{}").status == 403
    assert ask(guard, "/api/train", method="POST", headers=[COOKIE, ORIGIN], body=b"{}").status == 200
    assert [body for _, _, body in page.requests] == [b"{}"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(ask, guard, page, method):
    assert ask(guard, "/api/folder", method=method, headers=[COOKIE, ORIGIN]).status == 405
    assert page.requests == []


def test_a_body_that_says_to_be_too_large_is_not_read(ask, guard, page):
    headers = [COOKIE, ORIGIN, ("content-length", str(LARGEST_BODY + 1))]
    assert ask(guard, "/api/train", method="POST", headers=headers).status == 413
    assert ask(guard, "/api/train", method="POST", headers=[*headers[:2], ("content-length", "-1")]).status == 413
    assert page.requests == []


def test_a_body_that_grows_too_large_is_not_read_to_its_end(ask, guard, page):
    chunks = [bytes(2**20)] * (LARGEST_BODY // 2**20) + [b"1"]
    answer = ask(guard, "/api/train", method="POST", headers=[COOKIE, ORIGIN], chunks=chunks)
    assert answer.status == 413
    assert page.requests == []
    assert ask(guard, "/api/train", method="POST", headers=[COOKIE, ORIGIN], chunks=chunks[:-1]).status == 200


@pytest.mark.parametrize("headers", [[COOKIE], []])
def test_every_answer_carries_the_headers_of_safety(ask, guard, headers):
    answer = ask(guard, "/api/folder", headers=headers)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' blob: data:"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


def test_tokens_are_long_and_differ():
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 32
    assert len({cookie_name(token) for token in tokens}) == 50


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.8.9.1", True),
        ("0.0.0.0", False),
        ("a.org", False),
    ],
)
def test_only_this_machine_reaches_a_loopback_address(host, expected):
    assert is_loopback(host) is expected

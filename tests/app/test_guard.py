"""The page under attack, over HTTP against the running server."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from mtmsa_lightning.app import page
from mtmsa_lightning.app.guard import Guard
from mtmsa_lightning.app.page import GONE
from mtmsa_lightning.app.server import application, listen, private_folder, server

JOIN = "/gradio_api/queue/join"
UPLOAD = "/gradio_api/upload"


@pytest.fixture(scope="module")
def client(served: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.address, trust_env=False, timeout=60) as client:
        yield client


def plainly(response: httpx.Response, *statuses: int) -> None:
    """Check an error: its status, and nothing but the status in words."""
    assert response.status_code in statuses
    assert response.text == f"{httpx.codes.get_reason_phrase(response.status_code)}\n"


# ------------------------------------------------------------------------ files


def about(upload: str) -> dict[str, Any]:
    return SOUND | {"data": [{"path": upload, "orig_name": "x"}]}


def test_no_file_of_the_machine_is_shown_or_deleted(
    served: Any, client: httpx.Client, photos: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "alone" / "private.jpg"
    photo.parent.mkdir()
    photo.write_bytes((photos / "one.jpg").read_bytes())
    inside = served.folder / "inside.jpg"
    inside.write_bytes(photo.read_bytes())
    (tmp_path / "symbolic.jpg").symlink_to(photo)
    (tmp_path / "hard.jpg").hardlink_to(photo)
    tries = [
        photo, os.path.relpath(photo), inside, served.folder / os.path.relpath(photo, served.folder),
        tmp_path / "symbolic.jpg", tmp_path / "hard.jpg", f"/proc/self/root{photo}", f"file://{photo}",
        f"{served.address}/gradio_api/file={photo}", "/etc/passwd", ".", "", "\0", "x" * 5000,
    ]  # fmt: skip
    for path in tries:
        assert client.post(JOIN, json=about(str(path))).status_code in (400, 410), path
    assert photo.is_file()
    assert inside.is_file()
    assert len(list(tmp_path.iterdir())) == 3
    inside.unlink()


def test_an_upload_is_handed_out_once_and_to_nobody_who_guesses(
    served: Any, client: httpx.Client, photos: Path
) -> None:
    upload = served.upload((photos / "none.png").read_bytes())
    for guess in (upload[:-1], upload.swapcase(), f"./{upload}", f"{served.folder}/{upload}"):
        plainly(client.post(JOIN, json=about(guess)), 410)
    assert GONE not in served.ask(upload)
    plainly(client.post(JOIN, json=about(upload)), 410)


def test_an_upload_is_never_given_out_again(served: Any, client: httpx.Client, photos: Path) -> None:
    upload = served.upload((photos / "none.png").read_bytes())
    for path in (upload, photos / "one.jpg", "/etc/passwd", "x/../../etc/passwd", "http://127.0.0.1:1/"):
        answer = raw(
            served, f"GET /gradio_api/file={path} HTTP/1.1", f"Host: {client.base_url.netloc.decode()}"
        )
        assert answer.startswith(b"HTTP/1.1 204")
        assert answer.endswith(b"\r\n\r\n")
    assert GONE not in served.ask(upload)


@pytest.mark.parametrize(
    "path",
    ["/static/../../../../etc/passwd", "/static/%2e%2e/%2e%2e/pyproject.toml", "/static//etc/passwd",
     "/assets/..%2f..%2fconfig", "/static/.env", "/theme.css/..", "//etc/passwd", "/%00"],
)  # fmt: skip
def test_no_path_leads_out_of_the_pages_own_files(served: Any, path: str) -> None:
    answer = raw(served, f"GET {path} HTTP/1.1", f"Host: {urlsplit(served.address).netloc}")
    assert answer.split(b" ")[1] in (b"404", b"400")


# ------------------------------------------------------------------------ routes


def test_no_endpoint_of_gradio_is_open_but_those_that_the_page_needs(
    served: Any, client: httpx.Client
) -> None:
    """Every route of this version of Gradio, with all methods, and some that other versions have."""
    (mount,) = [route for route in served.app.routes if isinstance(route, Mount)]
    included = [route.original_router for route in mount.routes if hasattr(route, "original_router")]
    paths = {route.path for router in (mount, *included) for route in router.routes if hasattr(route, "path")}
    assert len(paths) > 50
    paths |= {"/gradio_api/component_server", "/gradio_api/mcp/sse", "/docs", "/openapi.json", "/queue/join"}
    filled = {path.replace("{path:path}", "x").replace("{", "").replace("}", "") for path in paths if path}
    opened = set()
    for path in filled:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            with client.stream(method, path) as response:  # an event stream need not end
                status = response.status_code
            if status not in (404, 405):
                opened.add((method, path))
    assert opened == {
        ("GET", "/"), ("HEAD", "/"), ("GET", "/theme.css"), ("GET", "/favicon.ico"),
        ("GET", "/gradio_api/file=path_or_url:path"), ("GET", "/gradio_api/upload_progress"),
        ("GET", "/gradio_api/queue/data"), ("POST", JOIN), ("POST", UPLOAD),
    }  # fmt: skip


def test_saved_states_of_gradio_are_not_read(client: httpx.Client) -> None:
    page = client.get("/?deep_link=../../../../etc/passwd&view=api&__theme=dark")
    assert page.status_code == 200
    assert 'deep_link_state":"valid' not in page.text
    assert "passwd" not in page.text


def test_a_websocket_is_not_opened(served: Any) -> None:
    answer = raw(
        served, "GET /gradio_api/queue/join HTTP/1.1", f"Host: {urlsplit(served.address).netloc}",
        "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    assert answer.startswith(b"HTTP/1.1 404")


# ------------------------------------------------------------------------ host and origin


def raw(served: Any, *lines: str) -> bytes:
    """Send a request as it stands, and return the answer."""
    address = urlsplit(served.address)
    with socket.create_connection((address.hostname, address.port), timeout=30) as opened:
        opened.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        return b"".join(iter(lambda: opened.recv(65536), b""))


@pytest.mark.parametrize("path", ["/", "/theme.css", "/gradio_api/queue/data?session_hash=a", UPLOAD, JOIN])
def test_a_domain_that_points_here_gets_nothing(client: httpx.Client, path: str) -> None:
    port = client.base_url.port
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "192.0.2.1",
                 f"127.0.0.1@evil.example:{port}", f"evil.example/127.0.0.1:{port}", ""):  # fmt: skip
        response = client.request("POST" if path in (UPLOAD, JOIN) else "GET", path, headers={"Host": host})
        assert response.status_code in (400, 421)
        assert len(response.text) < 120
        assert "Access-Control-Allow-Origin" not in response.headers


def test_forwarded_and_doubled_hosts_do_not_count(served: Any) -> None:
    host = urlsplit(served.address).netloc
    for lines in (
        [],
        ["Host: evil.example", f"X-Forwarded-Host: {host}"],
        [f"Host: {host}", "Host: evil.example"],
    ):
        assert raw(served, "GET / HTTP/1.1", *lines).split(b" ")[1] in (b"400", b"421")
    assert raw(served, "GET http://evil.example/ HTTP/1.1", "Host: evil.example").split(b" ")[1] in (
        b"400",
        b"421",
    )
    page = raw(served, "GET / HTTP/1.1", f"Host: {host}", "X-Forwarded-Host: evil.example")
    assert b" 200 " in page.partition(b"\r\n")[0]
    assert b"evil.example" not in page


def test_a_page_of_another_origin_gets_nothing(client: httpx.Client) -> None:
    port = client.base_url.port
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}", f"http://localhost:{port}",
                   f"http://evil.example:{port}", f"http://127.0.0.1:{port}.evil.example"):  # fmt: skip
        for method, path in (("GET", "/"), ("POST", UPLOAD), ("POST", JOIN), ("OPTIONS", JOIN)):
            response = client.request(method, path, headers={"Origin": origin})
            plainly(response, 403)
            assert "Access-Control-Allow-Origin" not in response.headers
    for site in ("cross-site", "same-site"):
        plainly(client.get("/theme.css", headers={"Sec-Fetch-Site": site}), 403)
        assert client.get("/", headers={"Sec-Fetch-Site": site}).status_code == 200
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/", headers=own).status_code == 200


OWN = socket.gethostname().lower()


@pytest.mark.parametrize(
    ("served_on", "reached", "refused"),
    [
        ("127.0.0.1", ["127.0.0.1", "LOCALHOST:8080", "[::1]:7860"], ["10.0.0.1", "evil.example"]),
        ("localhost", ["localhost", "127.0.0.1"], ["evil.example", "local.host"]),
        ("::1", ["[::1]:7860", "localhost"], ["[::2]", "evil.example", "::1"]),
        ("0.0.0.0", ["10.0.0.1:7860", "[fe80::1]", "localhost", OWN], ["evil.example", "10.0.0.1.example"]),
        ("192.0.2.7", ["192.0.2.7:7860", OWN], ["192.0.2.8", "evil.example"]),
    ],
)  # fmt: skip
def test_the_names_of_what_is_served_are_answered(
    served_on: str, reached: list[str], refused: list[str]
) -> None:
    async def status(host: str, **headers: str) -> int:
        guarded = Guard(PlainTextResponse("page"), served_on, question=0, known=str.isdigit)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://x") as client:
            return (await client.get("/", headers={"Host": host, **headers})).status_code

    for host in reached:
        assert asyncio.run(status(host)) == 200, host
        assert asyncio.run(status(host, Origin=f"http://{host}")) == 200, host
        assert asyncio.run(status(host, Origin="http://evil.example")) == 403, host
    for host in refused:
        assert asyncio.run(status(host)) == 421, host


# ------------------------------------------------------------------------ malformed requests

SOUND = {"data": [{"path": "x", "orig_name": "x"}], "fn_index": 0, "session_hash": "abc"}

MALFORMED = [
    b"", b"{", b"null", b"[]", b"7", b'"x"', b"\xff\xfe", b"[" * 10_000, b'{"a":' * 3000, b"9" * 10_000,
    b"NaN",
    *(json.dumps(SOUND | change).encode() for change in (
        {"data": []}, {"data": None}, {"data": "x"}, {"data": {}}, {"data": [1]}, {"data": [None, None]},
        {"data": [[]]}, {"data": [{}]}, {"data": [{"path": 7}]}, {"data": [{"path": None}]},
        {"data": [{"path": ["x"]}]},
        {"data": [{"path": "x" * 65}]}, {"data": [{"url": "file:///etc/passwd"}]}, {"fn_index": 1},
        {"fn_index": -1}, {"fn_index": None}, {"fn_index": "0"}, {"fn_index": [0]}, {"fn_index": 10**400},
        {"session_hash": None},
        {"session_hash": 5}, {"session_hash": ""}, {"session_hash": "a/../b"}, {"session_hash": "a" * 65},
    )),
    json.dumps({key: SOUND[key] for key in ("data", "fn_index")}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: body[:40].decode("latin-1"))
def test_a_malformed_question_is_answered_plainly(client: httpx.Client, body: bytes) -> None:
    plainly(client.post(JOIN, content=body, headers={"Content-Type": "application/json"}), 400)
    plainly(client.post(JOIN, content=body), 400)


def test_too_long_a_question_is_answered_plainly(client: httpx.Client) -> None:
    plainly(client.post(JOIN, content=json.dumps(SOUND | {"more": "x" * 10**6})), 400)


def form(*parts: str, boundary: str = "b") -> bytes:
    return "".join(f"--{boundary}\r\n{part}\r\n" for part in parts).encode() + f"--{boundary}--\r\n".encode()


FILE = 'Content-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\nx'
FORM = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (None, b""), (None, form(FILE)), ("application/json", b"{}"), ("image/jpeg", b"x"),
        ("application/x-www-form-urlencoded", b"files=x"), ("multipart/form-data", form(FILE)), (FORM, b""),
        (FORM, b"x"), (FORM, form()), (FORM, form(FILE)[:-9]), (FORM, form(FILE[:-1])),
        (FORM, form(FILE, FILE)), (FORM, form("x")),
        (FORM, form("\r\n\r\nx")), (FORM, form(FILE.replace("files", "other"))),
        (FORM, form('Content-Disposition: form-data; name="files"\r\n\r\n/etc/passwd')),
        (FORM, form(FILE, 'Content-Disposition: form-data; name="path"\r\n\r\n/etc/passwd')),
        (FORM, form("X: " + "x" * 20_000 + "\r\n" + FILE)),
    ],
)  # fmt: skip
def test_a_malformed_upload_is_answered_plainly(
    client: httpx.Client, content_type: str | None, body: bytes
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    plainly(client.post(UPLOAD, content=body, headers=headers), 400)


@pytest.mark.parametrize("size", [2**20 + 1, 3 * 2**20])
def test_a_file_that_is_too_large_is_refused_and_not_kept(
    served: Any, client: httpx.Client, size: int
) -> None:
    def parts() -> Iterator[bytes]:  # of unknown length
        yield form(FILE)[:-9]
        for _ in range(size // 2**16 + 1):
            yield bytes(2**16)

    plainly(client.post(UPLOAD, files={"files": ("a.jpg", bytes(size))}), 413)
    response = client.post(UPLOAD, content=parts(), headers={"Content-Type": FORM})
    assert response.status_code in (400, 413)
    assert [path for path in served.folder.rglob("*") if path.name != "vibe_edit_history"] == []


@pytest.mark.parametrize("query", ["", "?session_hash=", "?session_hash=a&x=1", "?session_hash=a%00", "?x=1"])
def test_malformed_queries_are_answered_plainly(client: httpx.Client, query: str) -> None:
    plainly(client.get(f"/gradio_api/queue/data{query}"), 400)


def test_errors_of_the_program_are_not_sent(
    served: Any, photos: Path, estimator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: Any) -> Any:
        raise RuntimeError("/home/secret: out of memory")

    monkeypatch.setattr(estimator, "_detector", broken)
    with pytest.raises(AssertionError) as failed:
        served.ask(served.upload((photos / "one.jpg").read_bytes()))
    assert '"success": False' in str(failed.value).replace("'", '"')
    assert "secret" not in str(failed.value)


def test_two_lengths_of_a_body_are_refused(served: Any) -> None:
    host = served.address.removeprefix("http://")
    name, port = host.split(":")
    with socket.create_connection((name, int(port)), timeout=30) as opened:
        opened.sendall(
            f"POST {JOIN} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n"
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode()
        )
        assert opened.recv(1000).startswith(b"HTTP/1.1 400")


def test_only_the_pages_own_files_may_be_kept(client: httpx.Client) -> None:
    for path in ("/", "/gradio_api/queue/data", "/nothing"):
        assert client.get(path).headers["Cache-Control"] == "no-store"
    assert client.get("/theme.css").headers.get("Cache-Control") != "no-store"


@contextmanager
def serving(estimator: Any, like: Any, **settings: Any) -> Iterator[Any]:
    """Serve the page once more, with other settings of the server."""
    with listen("127.0.0.1", None) as opened, private_folder() as folder:
        app = application(estimator, max_megabytes=1)
        running = server(app)
        for name, value in settings.items():
            setattr(running.config, name, value)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        yield type(like)(f"http://127.0.0.1:{opened.getsockname()[1]}", Path(folder), app)
        running.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_a_full_queue_refuses_further_questions(
    estimator: Any, served: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "LONGEST_QUEUE", 0)
    with serving(estimator, served) as busy:
        upload = busy.upload((photos / "one.jpg").read_bytes())
        refused = httpx.post(busy.address + JOIN, json=about(upload), trust_env=False)
        assert (refused.status_code, "photos are waiting" in refused.text) == (503, True)


def test_more_connections_than_allowed_are_answered_that_the_server_is_busy(
    estimator: Any, served: Any
) -> None:
    with serving(estimator, served, limit_concurrency=2) as busy:
        where = urlsplit(busy.address)
        address = (str(where.hostname), int(where.port or 0))
        with socket.create_connection(address) as first, socket.create_connection(address) as second:
            first.sendall(b"GET / HTTP/1.1\r\n")  # a request that does not end
            second.sendall(f"GET / HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            assert b" 503 " in second.recv(4096).splitlines()[0]

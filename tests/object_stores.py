"""Object stores on this machine: S3, Google Cloud Storage, and a proxy that makes them fail."""

import http.client
import json
import logging
import random
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

HOST = "127.0.0.1"
CLOSE = "close"
PASS = "pass"  # this request, and fail one after it

# What passes from a request to the store and back, besides the body.
_OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's S3, and give its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def gcs_server() -> Iterator[str]:
    """Run an emulator of Google Cloud Storage, and give its address."""
    from gcp_storage_emulator.server import create_server

    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    server = create_server(HOST, port, in_memory=True)
    server.start()
    try:
        yield f"http://{HOST}:{port}"
    finally:
        server.stop()


class Proxy:
    """Pass requests on to a store, and fail those that it was told to.

    Attributes:
        url: its address.
        faults: what to answer to the requests to come, in order: a status code, or CLOSE to hang
            up in the middle of the answer, after its headers.
        seen: method and path of each request, and bytes of the answer's body.
        moods: draws a fault for each request to come, or None; after those in `faults`.
        failed: how often each kind of fault was drawn.
    """

    def __init__(self, target: str) -> None:
        self.faults: deque[int | str] = deque()
        self.seen: list[tuple[str, str, int]] = []
        self.moods: Callable[[], int | str | None] = lambda: None
        self.failed: Counter[int | str] = Counter()
        self._target = urlsplit(target).netloc
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                proxy._handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_port}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, *faults: int | str) -> None:
        """Fail the requests to come, and forget those that were."""
        self.faults.extend(faults)
        self.seen.clear()

    def fail_some(self, rate: float, seed: int, *kinds: int | str) -> None:
        """Fail a share of all requests to come."""
        rng = random.Random(seed)
        self.moods = lambda: rng.choice(kinds) if rng.random() < rate else None
        self.failed.clear()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        asked = _body(handler)
        fault = self.faults.popleft() if self.faults else self.moods()
        if fault is not None:
            self.failed[fault] += 1
        if isinstance(fault, int):
            self.seen.append((handler.command, handler.path, 0))
            handler.send_response(fault)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        onward = http.client.HTTPConnection(self._target, timeout=30)
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in _OF_ONE_HOP}
        onward.request(handler.command, handler.path, asked, headers)
        answer = onward.getresponse()
        data = answer.read()
        onward.close()
        length = answer.headers["Content-Length"] if handler.command == "HEAD" else len(data)
        if fault == CLOSE:
            handler.close_connection = True
        body = data[: len(data) // 2] if fault == CLOSE else data
        # Before it is sent: who waits for the answer may look at once.
        self.seen.append((handler.command, handler.path, len(body)))
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _OF_ONE_HOP:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(length or 0))
        handler.end_headers()
        handler.wfile.write(body)
        if fault == CLOSE:
            handler.wfile.flush()
            handler.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def hdfs_server(folder: Path) -> Iterator[int]:
    """Serve a folder by the part of WebHDFS that Hadoop's Python client speaks; give the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            body = _body(self)
            url = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            path = folder / unquote(url.path).removeprefix("/webhdfs/v1/")
            self.answer(asked, path, body)

        do_GET = do_PUT = do_DELETE = handle_any  # noqa: N815

        def answer(self, asked: dict[str, str], path: Path, body: bytes | None) -> None:
            operation = asked["op"]
            if operation in ("GETFILESTATUS", "LISTSTATUS", "OPEN") and not path.exists():
                exception = {"exception": "FileNotFoundException", "message": f"no {path.name}"}
                self.send(404, {"RemoteException": exception})
            elif operation == "GETFILESTATUS":
                self.send(200, {"FileStatus": self.status(path, "")})
            elif operation == "LISTSTATUS":
                inside = path.iterdir() if path.is_dir() else []
                found = [self.status(one, one.name) for one in sorted(inside)]
                self.send(200, {"FileStatuses": {"FileStatus": found or []}})
            elif operation == "OPEN":
                start = int(asked.get("offset", 0))
                end = start + int(asked["length"]) if "length" in asked else None
                self.send(200, path.read_bytes()[start:end])
            elif operation == "CREATE" and "there" not in asked:
                self.send(307, b"", Location=f"http://{self.headers['Host']}{self.path}&there=1")
            elif operation == "CREATE":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body or b"")
                self.send(201, b"")
            elif operation == "RENAME":
                target = folder / asked["destination"].lstrip("/")
                done = target.parent.is_dir() and not target.exists()
                if done:
                    path.rename(target)
                self.send(200, {"boolean": done})
            elif operation == "MKDIRS":
                path.mkdir(parents=True, exist_ok=True)
                self.send(200, {"boolean": True})
            else:
                assert operation == "DELETE", operation
                path.unlink()
                self.send(200, {"boolean": True})

        def status(self, path: Path, name: str) -> dict[str, object]:
            found = path.stat()
            return {
                "pathSuffix": name,
                "type": "DIRECTORY" if path.is_dir() else "FILE",
                "length": 0 if path.is_dir() else found.st_size,
                "modificationTime": int(found.st_mtime * 1000),
            }

        def send(self, code: int, said: object, **headers: str) -> None:
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            kind = "octet-stream" if isinstance(said, bytes) else "json"
            self.send_response(code)
            for name, value in {**headers, "Content-Type": f"application/{kind}"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _body(handler: BaseHTTPRequestHandler) -> bytes | None:
    if handler.headers.get("Transfer-Encoding", "").lower() == "chunked":
        chunks = []
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            chunks.append(handler.rfile.read(size))
            handler.rfile.readline()
        handler.rfile.readline()
        return b"".join(chunks)
    length = handler.headers.get("Content-Length")
    return None if length is None else handler.rfile.read(int(length))

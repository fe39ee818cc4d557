"""A real HTTP server on this machine that misbehaves on request."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WebServer(ThreadingHTTPServer):
    """Serves `body` to every address; each request does the next thing of `plan`, the last stays.

    ``serve``: as it should be, with ranges; ``whole``: ignores ranges; ``drop N``: N bytes, then
    the connection ends; ``stall N``: N bytes, then silence; ``page``: a web page; ``CODE``: that
    status; ``wrong part``: another range than asked for.
    """

    daemon_threads = True

    def __init__(self, body: bytes, *plan: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body, self.plan, self.etag = body, list(plan) or ["serve"], '"first"'
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self.over = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        server = self.server
        action = server.plan.pop(0) if len(server.plan) > 1 else server.plan[0]
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        server.paths.append(self.path)
        if action.isdigit():
            self.send_error(int(action))
            return
        if action == "page":
            self._answer(200, b"<!DOCTYPE html><p>log in", "text/html; charset=utf-8")
            return
        verb, _, count = action.partition(" ")
        start, body = 0, server.body
        changed = self.headers.get("If-Range", server.etag) != server.etag
        if asked and verb != "whole" and not changed:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        if action == "wrong part":
            start, count = 1, ""
        if start >= len(body):
            self.send_error(416)
            return
        body = body[start:]
        self._head(206 if start else 200, body, start, "application/octet-stream")
        self.wfile.write(body[: int(count)] if count else body)
        self.wfile.flush()
        if verb == "stall":
            server.over.wait(20)
        self.close_connection = True

    def _answer(self, status: int, body: bytes, kind: str):
        self._head(status, body, 0, kind)
        self.wfile.write(body)

    def _head(self, status: int, body: bytes, start: int, kind: str):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.server.etag)
        if status == 206:
            end = start + len(body)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        self.end_headers()


@contextlib.contextmanager
def serving(body: bytes, *plan: str) -> Iterator[WebServer]:
    server = WebServer(body, *plan)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()

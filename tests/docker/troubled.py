"""Engines that cannot be used: one that this user may not reach, and one that answers what it likes."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

TOO_OLD = {"Version": "19.03.5", "ApiVersion": "1.40"}


@contextmanager
def as_nobody() -> Generator[None]:
    """Be a user without any rights."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def answering(document: object, path: Path | None = None) -> Generator[str]:
    """Something that listens like an engine, at `path`, and gives one answer to everything; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "somebody"

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with _server(Handler, path) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"unix://{path}" if path else f"tcp://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()
            if path:
                path.unlink()


def _server(handler: type[http.server.BaseHTTPRequestHandler], path: Path | None) -> socketserver.TCPServer:
    if path is None:
        return http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    return socketserver.ThreadingUnixStreamServer(os.fspath(path), handler)

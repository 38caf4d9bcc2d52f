"""The sample miners as their owners would run them: each answers on a loopback port of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Generator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tourney_ray.core.models import Miner
from tourney_ray.samples.repositories import SampleRepository

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
KEY_LENGTH = 48
"""Characters of an ss58 address."""


def sample_key(name: str, kind: str) -> str:
    """A made-up address that looks like an ss58 one and begins with the sample's name in capitals and small letters."""
    words = "".join(word.capitalize() for word in name.replace("_", "-").split("-"))
    digest = hashlib.sha512(f"{kind}|{name}".encode()).digest()
    return f"5{words}{''.join(_BASE58[byte % 58] for byte in digest)}"[:KEY_LENGTH]


@contextlib.contextmanager
def serve_samples(samples: Sequence[SampleRepository]) -> Generator[list[Miner]]:
    """The registry entries of these samples, while a server for each of them runs."""
    servers = [_server(sample) for sample in samples]
    threads = [Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True) for server in servers]
    try:
        for thread in threads:
            thread.start()
        yield [_miner(sample, server.server_port) for sample, server in zip(samples, servers, strict=True)]
    finally:
        for server, thread in zip(servers, threads, strict=True):
            if thread.is_alive():
                server.shutdown()
            server.server_close()


def _miner(sample: SampleRepository, port: int) -> Miner:
    keys = {"hotkey": sample_key(sample.name, "hotkey"), "coldkey": sample_key(sample.name, "coldkey")}
    return Miner(**keys, ip="127.0.0.1", port=port)


def _server(sample: SampleRepository) -> ThreadingHTTPServer:
    answer = json.dumps({"github_repo": sample.path.as_uri(), "commit_hash": sample.commit}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in ("/training_repo/text", "/training_repo/image")
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer if known else b"{}")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the driver records what was answered."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)

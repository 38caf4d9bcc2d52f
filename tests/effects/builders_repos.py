"""Real git repositories, an https server of git's own, and miners' servers that answer what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tourney_ray.core.models import TournamentType
from tourney_ray.effects.repos import RepoStore
from tourney_ray.effects.vetting import Rule, vet
from tourney_ray.errors import PlatformFault, RepoRejected

HONEST_DOCKERFILE = "FROM python:3.11-slim\nCOPY . /app\nENTRYPOINT ['python', '/app/train.py']\n"
HONEST_TREE = {
    "dockerfiles/standalone-text-trainer.dockerfile": HONEST_DOCKERFILE,
    "train.py": "import torch\n\nmodel = torch.nn.Linear(2, 2)\nmodel.eval()\n",
    "README.md": "# A miner\n",
}
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def git(folder: Path, *args: str, stdin: bytes | None = None) -> str:
    who = {f"GIT_{role}_{field}": "x@y.z" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **who}
    done = subprocess.run(["git", "-C", str(folder), *args], input=stdin, env=env, check=True, capture_output=True)
    return done.stdout.decode().strip()


def write_tree(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def found(tree: Path, **files: str | bytes) -> list[tuple[str, int, Rule]]:
    """Findings in an honest tree with more files; `__` in a keyword stands for a dot."""
    write_tree(tree, {**HONEST_TREE, **{name.replace("__", "."): content for name, content in files.items()}})
    return [(one.file, one.line, one.rule) for one in vet(tree, TournamentType.TEXT)]


def make_repo(folder: Path, files: Mapping[str, str | bytes] = HONEST_TREE) -> str:
    """A repository at `folder` with one commit on branch main, whose SHA is returned."""
    write_tree(folder, files)
    git(folder, "init", "--quiet", "--initial-branch=main")
    return commit_all(folder)


def commit_all(folder: Path) -> str:
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--allow-empty", "--message=x")
    return git(folder, "rev-parse", "HEAD")


@contextlib.contextmanager
def https_git(folder: Path, monkey_ca: Callable[[str, str], None]) -> Generator[str]:
    """Serves the repositories below `folder` over https on 127.0.0.1; yields `host:port`.

    `/moved/…` redirects, `/private/…` wants a password, `/broken/…` is a server error, `/silent/…` never answers.
    """
    key, cert = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*made, "-days", "2", *subject], check=True, capture_output=True)
    monkey_ca("GIT_SSL_CAINFO", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    over = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _git_handler(folder, over))
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _git_handler(folder: Path, over: threading.Event) -> type[BaseHTTPRequestHandler]:
    statuses = {"moved": 301, "private": 401, "broken": 500, "gone": 404}

    class GitOverHttps(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first = self.path.split("/")[1]
            if first == "silent":
                over.wait(30)
            elif first in statuses:
                self.send_response(statuses[first])
                self.send_header("Location", self.path.replace("/moved/", "/"))
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self._backend()

        do_POST = do_GET

        def _backend(self) -> None:
            path, _, query = self.path.partition("?")
            env = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            }
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            done = subprocess.run(["git", "http-backend"], input=body, env=env, check=False, capture_output=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.send_response(int(headers.pop("Status", "200 OK").split()[0]))
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return GitOverHttps


@contextlib.asynccontextmanager
async def tcp_server(handler: Handler, host: str = "127.0.0.1") -> AsyncGenerator[int]:
    """A server whose connections `handler` answers; yields its port."""

    answering: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.get_running_loop().create_task(answer(reader, writer)))

    server = await asyncio.start_server(begin, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*answering)
        await server.wait_closed()


def saying(response: bytes) -> Handler:
    """Reads one request and answers these bytes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()

    return handler


def http(body: bytes, status: str = "200 OK", extra: bytes = b"") -> bytes:
    """A whole HTTP response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n".encode() + extra + b"\r\n" + body


def head(repo: Path, what: str = "HEAD") -> str:
    return git(repo, "rev-parse", what)


def files_of(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def leftovers(store: RepoStore) -> list[str]:
    return [path.name for path in (store.root / "work").iterdir() if path.suffix != ".lock"]


def rejection(store: RepoStore, repo: str, ref: str) -> str:
    with pytest.raises(RepoRejected) as caught:
        store.fetch(repo, ref)
    message = caught.value.message
    assert message.isprintable()
    assert not isinstance(caught.value, PlatformFault)
    if (store.root / "work").exists():
        assert leftovers(store) == []
    return message

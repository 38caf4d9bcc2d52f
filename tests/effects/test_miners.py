"""Asking miners over real HTTP, and reading the file that lists them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.effects.builders_repos import http, saying, tcp_server
from tourney_ray.core.models import Miner, TournamentType
from tourney_ray.effects.miners import Answer, MinersFile, NoOffer, Offer, ask_miners
from tourney_ray.effects.ports import MinerRegistry
from tourney_ray.errors import ConfigError

SHA = "0123456789abcdef0123456789abcdef01234567"
REPO = "https://github.com/miner/trainer"


def miner(port: int, hotkey: str = "hot", ip: str = "127.0.0.1") -> Miner:
    return Miner(hotkey=hotkey, coldkey="cold", ip=ip, port=port)


def offer(repo: object = REPO, commit: object = SHA) -> bytes:
    return json.dumps({"github_repo": repo, "commit_hash": commit}).encode()


async def answer_to(response: bytes, **bounds: float) -> Answer:
    async with tcp_server(saying(response)) as port:
        answers = await ask_miners([miner(port)], TournamentType.TEXT, **bounds)  # pyright: ignore[reportArgumentType]
    return answers["hot"]


async def reason_of(response: bytes, **bounds: float) -> str:
    answer = await answer_to(response, **bounds)
    assert isinstance(answer, NoOffer)
    assert answer.reason.isprintable()
    assert len(answer.reason) <= 300
    return answer.reason


@pytest.mark.parametrize("tournament_type", TournamentType)
async def test_offer_is_asked_for_at_the_contract_path(tournament_type: TournamentType) -> None:
    requests: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(http(offer()))
        await writer.drain()

    async with tcp_server(handler) as port:
        answers = await ask_miners([miner(port)], tournament_type)
    assert answers == {"hot": Offer(repo=REPO, ref=SHA)}
    assert requests[0].startswith(f"GET /training_repo/{tournament_type.value} HTTP/1.1\r\n".encode())


async def test_upper_case_commit_is_lowered() -> None:
    assert await answer_to(http(offer(commit=SHA.upper()))) == Offer(repo=REPO, ref=SHA)


@pytest.mark.parametrize("ref", ["main", "v1.2", "feature/x-1", SHA[:8], "A" * 255])
async def test_names_and_short_hashes_are_offers(ref: str) -> None:
    assert await answer_to(http(offer(commit=ref))) == Offer(repo=REPO, ref=ref)


async def test_unknown_fields_are_ignored() -> None:
    body = json.dumps({"github_repo": REPO, "commit_hash": SHA, "version": 2}).encode()
    assert await answer_to(http(body)) == Offer(repo=REPO, ref=SHA)


@pytest.mark.parametrize(
    "ref", ["", "-x", "--upload-pack=x", "a..b", "a\nb", "a b", "a\x00b", "A" * 256, "x@{1}", "x.lock", "a//b", "é"]
)
async def test_unsafe_refs_are_refused(ref: str) -> None:
    assert "commit_hash must be" in await reason_of(http(offer(commit=ref)))


@pytest.mark.parametrize(
    "repo",
    [
        "",
        "http://github.com/a/b",
        "ssh://git@github.com/a/b",
        "git@github.com:a/b",
        "ext::sh -c id",
        "https://user:secret@github.com/a/b",
        "https://github.com/a/../b",
        "https://github.com/-a/b",
        "https://github.com/a/b?x=1",
        "https://github.com/a/b#x",
        "https://github.com/a/b\n",
        "https://github.com/a b",
        "https://gïthub.com/a/b",
        "https://github.com",
        "-oProxyCommand=id",
        "file://host/a",
        "relative/path",
        "/a/../b",
        "https://github.com/" + "a" * 600,
    ],
)
async def test_unsafe_addresses_are_refused(repo: str) -> None:
    assert "github_repo must" in await reason_of(http(offer(repo=repo)))


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (http(b"", "500 Internal Server Error"), "answered HTTP 500"),
        (http(b"", "404 Not Found"), "answered HTTP 404"),
        (http(b"", "302 Found", b"Location: http://127.0.0.1:1/\r\n"), "redirects are not followed (HTTP 302)"),
        (http(b"<html>"), "answer is not JSON: <html>"),
        (http(b"\xff\xfe\x00"), "answer is not JSON"),
        (http(b"[" * 60000), "answer is not JSON"),
        (http(b"9" * 6000), "answer is not JSON"),
        (http(b"[1]"), "answer is not a JSON object: [1]"),
        (http(b"null"), "answer is not a JSON object: null"),
        (http(b"{}"), "github_repo is missing"),
        (http(b'{"github_repo": "https://github.com/a/b"}'), "commit_hash is missing"),
        (http(offer(commit=7)), "commit_hash is not a string"),
        (http(offer(repo=None)), "github_repo is not a string"),
        (http(offer(repo=["x"])), "github_repo is not a string"),
        (http(b'{"github_repo": "\\u001b[31mred\\u202e"}'), "commit_hash is missing"),
        (http(b"x", extra=b"Content-Encoding: gzip\r\n"), "answer is not JSON"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP answer"),
        (b"", "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40000, "not an HTTP answer"),
    ],
)
async def test_rubbish_becomes_a_reason(response: bytes, said: str) -> None:
    assert said in await reason_of(response)


async def test_long_rubbish_is_cut_and_escaped() -> None:
    reason = await reason_of(http(b"\x1b[2J\r\n" + b"x" * 5000))
    assert r"\x1b[2J\r\n" in reason
    assert reason.endswith("…")


async def test_large_answers_are_cut_off_while_they_stream() -> None:
    assert "larger than 1000 bytes" in await reason_of(http(b"x" * 10**6), byte_cap=1000)


async def test_refused_connection() -> None:
    async with tcp_server(saying(b"")) as port:
        pass
    answers = await ask_miners([miner(port)], TournamentType.TEXT)
    assert answers == {"hot": NoOffer(reason=f"no connection to http://127.0.0.1:{port}/training_repo/text")}


async def test_slow_drip_ends_at_the_total_deadline_without_holding_up_others() -> None:
    dripped = 0

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dripped
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        ticks = asyncio.get_running_loop()
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            dripped += 1
            tick = ticks.create_future()
            ticks.call_later(0.01, tick.set_result, None)
            await tick

    async with tcp_server(drip) as slow, tcp_server(saying(http(offer()))) as good:
        asked = [miner(slow, "slow"), *(miner(good, f"good{number}") for number in range(20))]
        async with asyncio.timeout(5):
            answers = await ask_miners(asked, TournamentType.TEXT, deadline_s=0.5, at_once=4)
    assert list(answers) == [one.hotkey for one in asked]
    assert isinstance(answers["slow"], NoOffer)
    assert "no complete answer" in answers["slow"].reason
    assert dripped > 3
    assert all(answers[f"good{number}"] == Offer(repo=REPO, ref=SHA) for number in range(20))


@pytest.mark.parametrize("ip", ["example.com", "127.1", "127.0.0.1@evil", "::1%lo", "", "1.2.3.4/x"])
async def test_hostnames_are_never_contacted(ip: str) -> None:
    answers = await ask_miners([miner(80, ip=ip)], TournamentType.IMAGE)
    assert isinstance(answers["hot"], NoOffer)
    assert "neither an IP address nor localhost" in answers["hot"].reason


@pytest.mark.parametrize(("host", "ip"), [("::1", "::1"), ("127.0.0.1", "localhost")])
async def test_ipv6_and_localhost(host: str, ip: str) -> None:
    try:
        async with tcp_server(saying(http(offer())), host) as port:
            assert await ask_miners([miner(port, ip=ip)], TournamentType.TEXT) == {"hot": Offer(repo=REPO, ref=SHA)}
    except OSError:
        skip_or_fail(f"this machine has no {host}")


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert await answer_to(http(offer())) == Offer(repo=REPO, ref=SHA)


ENTRY = {"hotkey": "5Abc", "coldkey": "5Cold", "ip": "10.0.0.1", "port": 8080}


def as_toml(entries: Sequence[Mapping[str, object]]) -> str:
    return "".join(
        "[[miners]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items()) for entry in entries
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("miners.json", json.dumps({"miners": [ENTRY]})),
        ("miners.json", json.dumps([ENTRY])),
        ("miners.toml", as_toml([ENTRY])),
    ],
)
def test_formats_of_the_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    registry: MinerRegistry = MinersFile(tmp_path / name)
    assert list(registry.miners()) == [Miner(hotkey="5Abc", coldkey="5Cold", ip="10.0.0.1", port=8080)]


def test_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "miners.json"
    path.write_text("[]")
    registry = MinersFile(path)
    assert registry.miners() == []
    path.write_text(json.dumps([ENTRY, {**ENTRY, "hotkey": "5Def"}]))
    assert [one.hotkey for one in registry.miners()] == ["5Abc", "5Def"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([ENTRY, {**ENTRY, "port": 0}], "entry 2: port: "),
        ([{**ENTRY, "ip": "miner.example.com"}], "entry 1: ip: miner.example.com is neither"),
        ([{**ENTRY, "hotkey": "a b"}], "entry 1: hotkey: "),
        ([{"hotkey": "x", "ip": "::1", "port": 1}], "entry 1: coldkey: Field required"),
        ([{**ENTRY, "stake": 1}], "entry 1: stake: Extra inputs"),
        ([7], "entry 1: entry: "),
        ([ENTRY, {**ENTRY, "ip": "::1"}], "entry 2: hotkey: 5Abc is already that of entry 1"),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, entries: list[object], said: str) -> None:
    path = tmp_path / "miners.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(ConfigError) as caught:
        MinersFile(path).miners()
    assert f"miners file {path}: {said}" in caught.value.message


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("miners.json", "{", "not JSON"),
        ("miners.json", '"x"', "no list named 'miners'"),
        ("miners.json", '{"miner": []}', "no list named 'miners'"),
        ("miners.toml", "= 1", "not TOML"),
        ("miners.toml", "\xff", "not TOML"),
        ("absent.json", None, "No such file"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=said) as caught:
        MinersFile(tmp_path / name).miners()
    assert name in caught.value.message

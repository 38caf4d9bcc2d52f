"""Who may enter, and what repository each of them offers.

A miner's server is a stranger's: every answer has a total deadline and a byte cap, and whatever it says instead of an
offer becomes a readable reason. Asking never raises because of a miner.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import httpx
from pydantic import Field, ValidationError

from tourney_ray.core.models import Miner, TournamentType
from tourney_ray.core.quoting import shown
from tourney_ray.core.record import Record
from tourney_ray.effects.addresses import address_problem, is_commit, ref_problem
from tourney_ray.errors import ConfigError


class Offer(Record):
    """A miner's repository, and the commit, branch or tag of it that it wants to enter with."""

    repo: str = Field(min_length=1, max_length=512)
    ref: str = Field(min_length=1, max_length=255)
    """A full SHA in lower case, or a name that the repository store resolves to one, once."""


class NoOffer(Record):
    """Why a miner does not enter: one printable line of at most 300 characters."""

    reason: str


Answer = Offer | NoOffer


class MinersFile:
    """The miners listed in a JSON or TOML file, read anew at every call: it may change while a tournament waits.

    TOML: `[[miners]]` tables; JSON: `{"miners": [...]}` or the list alone; each entry with hotkey, coldkey, ip, port.
    """

    def __init__(self, path: Path) -> None:
        """Remember `path`; nothing is read yet."""
        self._path = path

    def miners(self) -> Sequence[Miner]:
        """All miners in the file's order; raises `ConfigError` naming file, entry and field."""
        entries = self._entries()
        miners = [self._miner(number, entry) for number, entry in enumerate(entries, start=1)]
        first: dict[str, int] = {}
        for number, miner in enumerate(miners, start=1):
            if (before := first.setdefault(miner.hotkey, number)) != number:
                raise self._error(number, "hotkey", f"{miner.hotkey} is already that of entry {before}")
        return miners

    def _entries(self) -> list[object]:
        try:
            text = self._path.read_text(encoding="utf-8")
            content: Any = tomllib.loads(text) if self._path.suffix == ".toml" else json.loads(text)
        except OSError as error:
            raise ConfigError(f"miners file {self._path}: {error.strerror}", "point to a readable file") from error
        except ValueError as error:
            kind = "TOML" if self._path.suffix == ".toml" else "JSON"
            raise ConfigError(f"miners file {self._path}: not {kind}: {shown(str(error))}") from error
        listed: Any = cast(dict[str, Any], content).get("miners") if isinstance(content, dict) else content
        if not isinstance(listed, list):
            raise ConfigError(f"miners file {self._path}: no list named 'miners'", "see MinersFile for the two formats")
        return cast(list[object], listed)

    def _miner(self, number: int, entry: object) -> Miner:
        try:
            miner = Miner.model_validate(entry)
        except ValidationError as error:
            problem = error.errors()[0]
            raise self._error(number, ".".join(map(str, problem["loc"])) or "entry", problem["msg"]) from error
        if not _is_literal(miner.ip):
            raise self._error(number, "ip", f"{shown(miner.ip)} is neither an IP address nor localhost")
        return miner

    def _error(self, number: int, field: str, problem: str) -> ConfigError:
        hint = "each miner needs hotkey, coldkey, ip and port, each hotkey once"
        return ConfigError(f"miners file {self._path}: entry {number}: {shown(field)}: {problem}", hint)


async def ask_miners(
    miners: Iterable[Miner],
    tournament_type: TournamentType,
    *,
    deadline_s: float = 10.0,
    byte_cap: int = 65536,
    at_once: int = 64,
) -> dict[str, Answer]:
    """What each miner offers, by hotkey, in the order of `miners`.

    `deadline_s` bounds one whole answer, slow drips included; at most `at_once` miners are asked at a time.
    """
    turn = asyncio.Semaphore(at_once)
    pool = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    headers = {"Accept-Encoding": "identity", "Accept": "application/json"}
    client = httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=None, limits=pool, headers=headers)

    async with client:
        question = _Question(client, f"/training_repo/{tournament_type.value}", byte_cap, deadline_s)

        async def ask(miner: Miner) -> Answer:
            async with turn:
                return await question.put_to(miner)

        asked = list(miners)
        answers = await asyncio.gather(*(ask(miner) for miner in asked))
    return {miner.hotkey: answer for miner, answer in zip(asked, answers, strict=True)}


@dataclass(frozen=True)
class _Question:
    """The one request that every miner gets, with its bounds."""

    client: httpx.AsyncClient
    path: str
    byte_cap: int
    deadline_s: float

    async def put_to(self, miner: Miner) -> Answer:
        """The miner's offer, or why there is none."""
        if not _is_literal(miner.ip):
            return NoOffer(reason=f"address {shown(miner.ip)} is neither an IP address nor localhost")
        host = f"[{miner.ip}]" if ":" in miner.ip else miner.ip
        url = f"http://{host}:{miner.port}{self.path}"
        try:
            async with asyncio.timeout(self.deadline_s):
                return await self._get(url)
        except TimeoutError:
            return NoOffer(reason=f"no complete answer from {url} within {self.deadline_s:g} s")
        except (httpx.ConnectError, OSError):
            return NoOffer(reason=f"no connection to {url}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return NoOffer(reason=f"not an HTTP answer from {url}: {shown(str(error) or type(error).__name__)}")

    async def _get(self, url: str) -> Answer:
        async with self.client.stream("GET", url) as response:
            if response.is_redirect:
                return NoOffer(reason=f"redirects are not followed (HTTP {response.status_code})")
            if response.status_code != HTTPStatus.OK:
                return NoOffer(reason=f"answered HTTP {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self.byte_cap:
                    return NoOffer(reason=f"answer is larger than {self.byte_cap} bytes")
        return _offer(bytes(body))


def _offer(body: bytes) -> Answer:
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        return NoOffer(reason=f"answer is not JSON: {shown(body)}")
    if not isinstance(said, dict):
        return NoOffer(reason=f"answer is not a JSON object: {shown(body)}")
    fields = cast(dict[str, object], said)
    repo, commit = fields.get("github_repo"), fields.get("commit_hash")
    if not isinstance(repo, str) or not isinstance(commit, str):
        field = "commit_hash" if isinstance(repo, str) else "github_repo"
        state = "is not a string" if field in fields else "is missing"
        return NoOffer(reason=f"{field} {state}: {shown(body)}")
    if problem := address_problem(repo):
        return NoOffer(reason=f"github_repo {problem}: {shown(repo)}")
    if problem := ref_problem(commit):
        return NoOffer(reason=f"commit_hash {problem}: {shown(commit)}")
    return Offer(repo=repo, ref=commit.lower() if is_commit(commit) else commit)


def _is_literal(ip: str) -> bool:
    if ip == "localhost":
        return True
    try:
        return "%" not in ip and bool(ipaddress.ip_address(ip))
    except ValueError:
        return False

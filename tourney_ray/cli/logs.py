"""`tourney logs`: what an attempt said last, while it runs and afterwards. A stranger's words, shown as text only."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from tourney_ray.cli import whereabouts
from tourney_ray.cli.attempts import TRAINING, Recorded, recorded_attempt
from tourney_ray.errors import NotFound, PlatformFault

if TYPE_CHECKING:
    from tourney_ray.cli.whereabouts import Whereabouts
    from tourney_ray.config import Settings

FOLLOW_S = 1.0
"""Between two looks at what an attempt has said."""

GAP = "[…]"
"""A line in place of what was said faster than anybody looked."""


@click.command()
@whereabouts.options
@click.option("--follow", "-f", is_flag=True, help="Go on with what it says until it is over.")
@click.argument("attempt_id")
def logs(path: Path | None, address: str | None, name: str | None, follow: bool, attempt_id: str) -> None:
    """Print the end of an attempt's log, 2 kB at most: as the driver hears it, or, of one that is over, by record."""
    out = sys.stdout  # inside, what is printed goes to stderr
    with whereabouts.found(path, address, name) as where:
        attempt = recorded_attempt(where, attempt_id)
        if attempt.status != TRAINING:
            said = attempt.log_tail
        elif follow and where.driver:
            attempt, said = _followed(where, attempt_id, out)
        else:
            said = _heard(where, attempt_id)
        settings = where.settings
    if attempt.status == TRAINING and not said:
        raise NotFound(
            f"attempt {attempt_id} has said nothing yet, as far as the driver {settings.name} has heard",
            "what it says without containers is heard at its end; --follow waits",
        )
    click.echo(shown(said), nl=bool(said) and not said.endswith("\n"))
    if attempt.status != TRAINING:
        _tell_end(settings, attempt_id, attempt)


def _followed(where: Whereabouts, attempt_id: str, out: TextIO) -> tuple[Recorded, str]:
    """The attempt when it is over, and the end of its log less what has been printed by then."""
    seen = ""
    while (attempt := recorded_attempt(where, attempt_id)).status == TRAINING:
        said = _heard(where, attempt_id)
        click.echo(shown(more(seen, said)), nl=False, file=out)
        seen = said or seen
        time.sleep(FOLLOW_S)
    return attempt, more(seen, attempt.log_tail)


def _heard(where: Whereabouts, attempt_id: str) -> str:
    """What the driver has heard of an attempt that is under way; raises `NotFound` where no driver listens."""
    if where.driver is None:
        raise NotFound(
            f"attempt {attempt_id} is not over by the journal, and no driver hears what it says: {where.why_none}",
            "`tourney run` starts the driver",
        )
    return str(where.driver.call("tail", attempt_id))


def shown(said: str) -> str:
    """A stranger's words with everything escaped that a terminal would act upon, and is no end of a line or a tab."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode("ascii")
        for letter in said
    )


def more(seen: str, said: str) -> str:
    """What `said` goes on with after `seen`: both are ends of one log, the second a later one."""
    said = said.lstrip("\N{REPLACEMENT CHARACTER}")  # half a letter, where the end begins
    overlap = next((n for n in range(min(len(seen), len(said)), 0, -1) if seen.endswith(said[:n])), 0)
    return said[overlap:] if overlap or not seen or not said else f"\n{GAP}\n{said}"


def _tell_end(settings: Settings, attempt_id: str, attempt: Recorded) -> None:
    """How it ended, and where its logs are, on stderr."""
    from tourney_ray.driver.folders import artifact_store
    from tourney_ray.effects.manifest import PREFIX, digest_of
    from tourney_ray.effects.provenance import load

    reason = f": {shown(attempt.reason)}" if attempt.reason else ""
    click.echo(f"note: attempt {attempt_id} is over, a {attempt.status}{reason}", err=True)
    if not attempt.provenance:
        return
    try:
        kept = load(artifact_store(settings), digest_of(attempt.provenance)).left
    except PlatformFault as fault:
        click.echo(f"note: whether its log folder is kept cannot be seen from here: {fault.message}", err=True)
        return
    if kept.logs:
        click.echo(f"note: its log folder is kept: tourney checkout {PREFIX}{kept.logs} TARGET", err=True)

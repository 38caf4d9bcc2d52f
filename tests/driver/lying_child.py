"""An evaluator's process that was taken over by a hostile file: it does what its checkpoint is called."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HONEST: dict[str, Any] = {
    "value": 2.0,
    "per_row": [1.0, 3.0],
    "distance": 0.1,
    "digest": "ab" * 32,
    "environment": {"torch": "2"},
}


def main() -> None:
    say("")
    for line in sys.stdin:
        question = json.loads(line)
        name = Path(question["checkpoint"]).name
        print(f"reading {name}", file=sys.stderr, flush=True)
        behave(name, question["number"])


def behave(name: str, number: int) -> None:
    match name:
        case "dies":
            os._exit(7)
        case "hangs":
            time.sleep(600)
        case "babbles":
            say("}{")
        case "pickles":
            sys.stdout.buffer.write(b"\x80\x04\x95.\n")
            sys.stdout.flush()
        case "another":
            say(reply(number + 1))
        case "better":
            say(reply(number, value=0.5))
        case "more":
            say(json.dumps(json.loads(reply(number)) | {"winner": True}))
        case "breaks":
            say(json.dumps({"number": number, "trouble": {"message": "out of memory", "broke_off": True}}))
        case "fails":
            say(json.dumps({"number": number, "trouble": {"message": "no rows"}}))
        case _:
            say(reply(number))


def reply(number: int, **changes: Any) -> str:
    return json.dumps({"number": number, "result": HONEST | changes})


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()

"""Trees with licences and notices of many kinds, as the recorded vectors describe them."""

from __future__ import annotations

from pathlib import Path

from tests.effects.builders_repos import HONEST_TREE, write_tree
from tourney_ray.core.models import TournamentType
from tourney_ray.effects.vetting import LicencePolicy, vet

TEXT = TournamentType.TEXT
POLICY = LicencePolicy(licence="The licence\n\n  with an indent\nlast line\n", notice="A notice\nof two lines\n")


def licensed(tree: Path, files: list[str], variant: str) -> bool:
    """Write a tree as the vector says and tell whether its licence is accepted."""
    write_tree(tree, HONEST_TREE)
    licence, notice = _texts(variant)
    for number, name in enumerate(files):
        path = tree / name.split("->")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        content = notice if "notice" in path.name.lower() else licence
        if ("wrong LICENSE.md" in variant and number == 0) or (
            "wrong LICENSE" in variant.split(", ")[-1] and number == 1
        ):
            content = b"another licence\n"
        if "->" in name:
            (tree.parent / "target").write_bytes(content)
            path.symlink_to(tree.parent / "target")
        else:
            path.write_bytes(content)
    return vet(tree, TEXT, POLICY) == []


def _texts(variant: str) -> tuple[bytes, bytes]:
    licence, notice = POLICY.licence, POLICY.notice
    changed: dict[str, tuple[str, str]] = {
        "trailing spaces and tabs on every line": (licence.replace("\n", " \t\n"), notice.replace("\n", " \t\n")),
        "whitespace after the final newline": (licence + "  ", notice),
        "CRLF": (licence.replace("\n", "\r\n"), notice.replace("\n", "\r\n")),
        "CR only": (licence.replace("\n", "\r"), notice.replace("\n", "\r")),
        "no final newline": (licence[:-1], notice[:-1]),
        "one extra final newline": (licence + "\n", notice),
        "extra final newline in NOTICE": (licence, notice + "\n"),
        "leading space in a line": (licence.replace("last", " last"), notice),
        "leading newline": ("\n" + licence, notice),
        "BOM": ("\ufeff" + licence, notice),
        "one word changed": (licence.replace("last", "first"), notice),
        "case changed": (licence.upper(), notice),
        "NOTICE changed": (licence, notice + "more\n"),
        "empty license": ("", notice),
        "empty notice": (licence, ""),
        "vertical tab as line break": (licence.replace("\n", "\v"), notice),
        "form feed as line break": (licence.replace("\n", "\f"), notice),
        "U+2028 as line break": (licence.replace("\n", "\u2028"), notice),
        "no-break space at line end": (licence.replace("\n", "\u00a0\n"), notice),
        "inner double space": (licence.replace("The ", "The  "), notice),
        "tabs for leading spaces": (licence.replace("  with", "\twith"), notice),
        "swapped files": (notice, licence),
    }
    if variant == "not utf-8":
        return licence.encode() + b"\xff\n", notice.encode()
    texts = changed.get(variant, (licence, notice))
    return texts[0].encode(), texts[1].encode()

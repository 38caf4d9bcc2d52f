"""Dockerfiles as strangers write them: what is read, and what is refused because engines differ in reading it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, strategies as st

from tourney_ray.effects.engine.dockerfile import parse, quoted_words
from tourney_ray.effects.engine.dockerfile_demands import (
    added,
    external_images,
    needs_buildkit,
    reaching_out,
    unclear_images,
    unknown_flags,
    volumes,
)

F = "FROM base\n"


def names(text: str) -> list[str]:
    """Of the instructions."""
    return [one.name for one in parse(text).instructions]


def images(text: str) -> list[str | None]:
    """That it takes from the node."""
    return [one.name for one in external_images(parse(text))]


def refused(text: str) -> bool:
    """Whether anything of it is refused before the engine sees it."""
    dockerfile = parse(text)
    return bool(
        dockerfile.unclear
        or unknown_flags(dockerfile)
        or needs_buildkit(dockerfile)
        or unclear_images(dockerfile)
        or reaching_out(dockerfile)
        or volumes(dockerfile)
    )


READ = {
    "plain": (F + "RUN a\nCOPY . /x\n", ["FROM", "RUN", "COPY"]),
    "small letters": ("from base\nrun a\nCmd b", ["FROM", "RUN", "CMD"]),
    "windows lines": ("FROM base\r\nRUN a \\\r\n b\r\nCMD c\r\n", ["FROM", "RUN", "CMD"]),
    "byte order mark": ("\ufeffFROM base\nRUN a", ["FROM", "RUN"]),
    "tabs": ("FROM\tbase\nRUN\ta\n\tCOPY\t.\t/x\n", ["FROM", "RUN", "COPY"]),
    "continuation": (F + "RUN a \\\n  VOLUME /x\nCMD c", ["FROM", "RUN", "CMD"]),
    "continuation with blanks behind it": (F + "RUN a \\ \t\n  VOLUME /x\nCMD c", ["FROM", "RUN", "CMD"]),
    "comment in a continuation": (F + "RUN a \\\n# no \\\n   # nor this\n b\nCMD c", ["FROM", "RUN", "CMD"]),
    "comment that ends in an escape": (F + "# a \\\nRUN b", ["FROM", "RUN"]),
    "empty line in a continuation": (F + "RUN a \\\n\n \t\n b\nCMD c", ["FROM", "RUN", "CMD"]),
    "continuation at the end": (F + "RUN a \\", ["FROM", "RUN"]),
    "another escape": ("# escape=`\nFROM base\nRUN a `\n b\nRUN c\\\nCMD d", ["FROM", "RUN", "RUN", "CMD"]),
    "the usual escape, said": ("# escape=\\\nFROM base\nRUN a \\\n b\nCMD d", ["FROM", "RUN", "CMD"]),
    "a comment about escapes": (F + "# escape=`\nRUN a\n", ["FROM", "RUN"]),
    "here-document": (F + "RUN cat <<EOF\nVOLUME /x\nEOF\nCMD c", ["FROM", "RUN", "CMD"]),
    "two here-documents": (F + "RUN a <<A b <<'B'\nx\nA\ny\nB\nCMD c", ["FROM", "RUN", "CMD"]),
    "here-document with tabs": (F + "RUN cat <<-EOF\n\tx\n\tEOF\nCMD c", ["FROM", "RUN", "CMD"]),
    "here-document without end": (F + "RUN cat <<EOF\nVOLUME /x\n", ["FROM", "RUN", "VOLUME"]),
    "copied here-document": (F + "COPY <<a.txt /a\nx\na.txt\nCMD c", ["FROM", "COPY", "CMD"]),
    "no here-document in quotes": (F + 'RUN echo "a <<EOF"\nVOLUME /x\nEOF', ["FROM", "RUN", "VOLUME", "EOF"]),
    "no here-document in single quotes": (F + "RUN echo 'a <<EOF'\nCMD c\nEOF", ["FROM", "RUN", "CMD", "EOF"]),
    "no here-document in JSON": (F + 'RUN ["a", "<<EOF"]\nCMD c\nEOF', ["FROM", "RUN", "CMD", "EOF"]),
    "no here-document: escaped": (F + "RUN a \\<<EOF\nCMD c\nEOF", ["FROM", "RUN", "CMD", "EOF"]),
    "no here-document: a shift": (F + "RUN echo $((1<<2)) $((1 << 2))\nCMD c\n2", ["FROM", "RUN", "CMD", "2"]),
    "no here-document: a string": (F + "RUN cat <<<EOF\nCMD c\nEOF", ["FROM", "RUN", "CMD", "EOF"]),
    "no here-document: within a word": (F + "RUN a<<EOF\nCMD c\nEOF", ["FROM", "RUN", "CMD", "EOF"]),
    "no here-document in ENV": (F + "ENV A <<EOF\nCMD c\nEOF", ["FROM", "ENV", "CMD", "EOF"]),
    "nothing": ("", []),
    "comments alone": ("# a\n\n  # b\n", []),
}


@pytest.mark.parametrize("name", READ)
def test_instructions(name: str) -> None:
    text, expected = READ[name]
    assert names(text) == expected


IMAGES = {
    "one": (F, ["base"]),
    "by digest": ("FROM a.example:5000/b/c@sha256:" + "0" * 64, ["a.example:5000/b/c@sha256:" + "0" * 64]),
    "by id": ("FROM sha256:" + "0" * 64, ["sha256:" + "0" * 64]),
    "by all that a name may have": ("FROM a.B-c:1/d/e_f.g--h:V_1.0-x", ["a.B-c:1/d/e_f.g--h:V_1.0-x"]),
    "stages": ("FROM a AS x\nFROM b AS Y\nFROM X\nCOPY --from=y /a /b\nCOPY --from=0 /a /b", ["a", "b"]),
    "scratch": ("FROM scratch\n", []),
    "a number is no stage to begin with": ("FROM a\nFROM 0\n", ["a", "0"]),
    "a number beyond the stages": ("FROM a\nFROM b\nCOPY --from=1 /a /b\n", ["a", "b", "1"]),
    "a stage within itself is none": ("FROM a AS ubuntu\nCOPY --from=ubuntu /a /b\n", ["a", "ubuntu"]),
    "a stage before its time is none": ("FROM a\nCOPY --from=later /a /b\nFROM b AS later\n", ["a", "later", "b"]),
    "copied from an image": (F + "COPY --chown=1:1 --from=other:1 /a /b\n", ["base", "other:1"]),
    "a default": ("ARG TAG=V1\nFROM base:$TAG\n", ["base:V1"]),
    "a default in braces": ("ARG A=x\nARG B=${A}y\nFROM ${B}z\n", ["xyz"]),
    "a quoted default": ("ARG A=\"x\" B='y'\nFROM $A/$B\n", ["x/y"]),
    "the other value": ("ARG A\nARG B=\nFROM ${A:-x}${B:-y}${B:+n}\n", ["xy"]),
    "the first value": ("ARG A=z\nFROM ${A:-x}${A:+y}\n", ["zy"]),
    "arguments of a stage are no business of FROM": ("ARG A=x\nFROM a\nARG A=y\nFROM $A\n", ["a", "x"]),
    "a trigger": (F + "ONBUILD COPY --from=other /a /b\n", ["base", "other"]),
    "a trigger is no stage": (F + "ONBUILD RUN a\nFROM other", ["base", "other"]),
    "flags ended": (F + "COPY -- --from=x /b\n", ["base"]),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(name: str) -> None:
    text, expected = IMAGES[name]
    assert images(text) == expected
    assert not unclear_images(parse(text))


def test_platforms() -> None:
    (source,) = external_images(parse("FROM --platform=linux/arm64 base AS x\n"))
    assert (source.line, source.name, source.platform) == (1, "base", "linux/arm64")


REFUSED = {
    "an image by a variable": "FROM $A\n",
    "an image by a part of a variable": "ARG A\nFROM base:$A\n",
    "an image by an unknown form": "ARG A=x\nFROM ${A%x}\n",
    "an image in quotes": "FROM 'base'\n",
    "a variable that begins with a digit": "ARG 1a=base\nFROM $1a\n",
    "an argument said twice": "ARG A=base\nARG A\nFROM ${A:-other}\n",
    "a default with blanks": 'ARG A="a B=base c"\nFROM ${B:-other}\n',
    "a default that is half in quotes": 'ARG A=b"as"e\nFROM $A\n',
    "a default from its own line": "ARG A=base B=${A:-other}\nFROM $B\n",
    "a default in an escape": "ARG A=a\\ B=b\nFROM $A\n",
    "an image that is a path": "FROM ../containers/x\n",
    "an image that is a path within": F + "COPY --from=a/../../info /a /b\n",
    "an image in capitals": "FROM Base\n",
    "an image of a very long name": f"FROM {'a' * 256}\n",
    "an image of no known digest": "FROM a@md5:0\n",
    "FROM of many words": "FROM a b c d\n",
    "FROM without a word": "FROM\n",
    "a stage of an odd name": "FROM a AS \u00fcber\n",
    "COPY --from of a variable": F + "COPY --from=$A /a /b\n",
    "COPY --from of nothing": F + "COPY --from= /a /b\n",
    "an escaped flag": F + "COPY --fr\\om=other /a /b\n",
    "a quoted flag": F + 'COPY --"from"=other /a /b\n',
    "a flag beyond ASCII": F + "COPY --chown=\u00e0--from=other /a /b\n",
    "a flag that nobody knows": F + "COPY --form=x /a /b\n",
    "a flag of another": F + "RUN --from=x a\n",
    "a flag in capitals": F + "COPY --FROM=other /a /b\n",
    "an unknown instruction": F + "VOLUMES /x\n",
    "a trigger of a trigger": F + "ONBUILD ONBUILD RUN a\n",
    "a trigger of FROM": F + "ONBUILD FROM a\n",
    "an escape twice at the end": F + "RUN a \\\\\nVOLUME /x\n",
    "an escape thrice at the end": F + "RUN a \\\\\\\nRUN b\n",
    "an escape on the second line": "# a=b\n# escape=`\nFROM base\nRUN a `\nVOLUME /x\n",
    "an escape after an empty line": "\n# escape=`\nFROM base\n",
    "an escape behind blanks": " # escape=`\nFROM base\n",
    "an escape of its own": "# escape=x\nFROM base\n",
    "an escape of two": "# escape=`\\\nFROM base\n",
    "a lone carriage return": F + "RUN a\rVOLUME /x\n",
    "a form feed": F + "RUN a\n\x0cVOLUME /x\n",
    "a vertical tab": "FROM\x0bbase\n",
    "a separator of files": F + "\x1c# a\n",
    "a next line": F + "RUN a\x85VOLUME /x\n",
    "a null": F + "RUN a\0\n",
    "an odd blank before an instruction": F + "RUN\u00a0a\n",
    "a quote without end beside <<": F + "RUN echo it's <<EOF\nCMD a\nEOF\n",
    "a syntax": "# syntax=docker/dockerfile:1\nFROM base\n",
    "a syntax in capitals": "#SYNTAX = x/y\nFROM base\n",
    "a syntax behind a comment": "# a\n# syntax=x/y\nFROM base\n",
    "RUN --mount": F + "RUN --mount=type=cache,target=/x a\n",
    "RUN --network": F + "RUN --network=host a\n",
    "RUN --security": F + "RUN --security=insecure a\n",
    "COPY --link": F + "COPY --link . /x\n",
    "ADD --checksum": F + "ADD --checksum=sha256:0 x /x\n",
    "here-document": F + "RUN <<EOF\necho a\nEOF\n",
    "here-document of an odd name": F + "RUN <<E-O$F\nVOLUME /x\nE-O$F\n",
    "here-document of a descriptor": F + "RUN 3<<EOF a\nEOF\n",
    "here-document of a trigger": F + "ONBUILD RUN <<EOF\na\nEOF\n",
    "ADD of a URL": F + "ADD https://example.com/a /a\n",
    "ADD of a URL in capitals": F + "ADD HTTP://example.com/a /a\n",
    "ADD of git": F + "ADD git@example.com:a/b /a\n",
    "ADD of a repository": F + "ADD a/b.git#main /a\n",
    "ADD of a variable": F + "ARG U\nADD $U /a\n",
    "ADD of a pattern": F + "ADD *.gz /a\n",
    "ADD in JSON": F + 'ADD ["https://example.com/a", "/a"]\n',
    "ADD in JSON with a rest": F + 'ADD ["https://example.com/a", "/a"] a\n',
    "ADD of a URL by a trigger": F + "ONBUILD ADD https://example.com/a /a\n",
    "ADD of a URL on two lines": F + "ADD \\\n # here \n https://example.com/a \\\n /a\n",
    "a volume": F + "VOLUME /x\n",
    "a volume in small letters": F + "volume /x\n",
    "a volume by a trigger": F + "ONBUILD VOLUME /x\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    assert refused(REFUSED[name])


ACCEPTED = {
    "health check": F + "HEALTHCHECK --interval=5s --timeout=1s --start-period=1s --retries=2 CMD true\n",
    "no health check": F + "HEALTHCHECK NONE\n",
    "letters of all kinds": F + 'RUN echo "größe 模型 🚀"  # \u2028\nLABEL a="ü"\n',
    "a very long line": F + "RUN " + "a " * 100_000 + "\n",
    "all that there is": "FROM base AS x\nMAINTAINER a\nARG A\nENV A=1\nLABEL a=b\nSHELL ['a']\nEXPOSE 80\nUSER 1\n"
    "WORKDIR /x\nSTOPSIGNAL 9\nCOPY --chown=1 --from=x /a /b\nADD --chown=a:b . /x/\nRUN a --mount=b\n"
    'ENTRYPOINT ["a", "--flag"]\nCMD ["--b"]\nONBUILD RUN a\n',
    "flags of a program": F + "RUN pip install --no-cache-dir --find-links=./wheels x\n",
    "a comment about syntax": F + "# syntax=x/y\n",
    "the native platform": "FROM --platform=linux/amd64 base\n",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    assert not refused(ACCEPTED[name])


def test_problems_name_their_line() -> None:
    dockerfile = parse(F + "RUN a \\\n b\n\nRUN --mount=type=cache c\nVOLUME /x\nFOO\n")
    assert [str(one) for one in needs_buildkit(dockerfile)] == ["line 5: RUN --mount"]
    assert [str(one) for one in volumes(dockerfile)] == ["line 6: VOLUME /x"]
    assert [str(one) for one in dockerfile.unclear] == ["line 7: there is no instruction FOO"]


def test_what_a_problem_shows_is_printable() -> None:
    (problem,) = volumes(parse(F + "VOLUME /\u202ex" + "y" * 10_000))
    assert str(problem).isprintable()
    assert len(str(problem)) <= 200


def test_the_last_stage() -> None:
    stage = parse("FROM a\nENTRYPOINT b\nFROM c\nONBUILD RUN a\nCMD d\n").last_stage()
    assert [(one.name, one.value, one.onbuild) for one in stage] == [
        ("FROM", "c", False),
        ("RUN", "a", True),
        ("CMD", "d", False),
    ]


def test_what_is_added() -> None:
    dockerfile = parse(F + 'ADD --chown=1 a b/ /x/\nADD ["c d", "/x/"]\nONBUILD ADD e /x\nCOPY f /x\n')
    assert [(one.line, one.path) for one in added(dockerfile)] == [(2, "a"), (2, "b/"), (3, "c d"), (4, "e")]


QUOTED = {
    "a b": ["a", "b"],
    "a\t 'b c' ": ["a", "'b c'"],
    'a"b \'c"d': ['a"b \'c"d'],
    "a\\ b": ["a\\ b"],
    "'a\\' b": ["'a\\'", "b"],
    '"a\\" b"': ['"a\\" b"'],
    "": [],
    "it's": None,
    '"a': None,
}


@pytest.mark.parametrize("text", QUOTED)
def test_quoted_words(text: str) -> None:
    assert quoted_words(text, "\\") == QUOTED[text]


PIECES = (
    *"\\`\"'$ \t\n\r#<[]a0",
    *("FROM ", "ARG ", "RUN ", "COPY --from=", "ADD ", "ONBUILD ", " AS ", "--", "\n", "# escape=`\n", "# syntax="),
    *("<<EOF", "EOF\n", "${A:-", "}", "A=", "\u00e0", "\x85"),
)
MADE_UP = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


@given(st.one_of(st.text(), MADE_UP))
def test_no_text_is_too_odd_to_read(text: str) -> None:
    dockerfile = parse(text)
    asked = (external_images, unclear_images, needs_buildkit, reaching_out, volumes, unknown_flags, added)
    for of in asked:
        assert all(0 < one.line <= text.count("\n") + 1 for one in of(dockerfile))
    assert all(str(one).isprintable() for one in dockerfile.unclear)


@given(MADE_UP)
def test_nothing_but_a_continuation_swallows_an_instruction(text: str) -> None:
    """A volume on a line of its own is seen, or the whole is refused for what comes before it."""
    whole = f"FROM base\n{text}\nVOLUME /x\n"
    assert refused(whole) or text.rstrip(" \t\n\r").endswith(("\\", "`"))


@pytest.mark.parametrize("line", ["RUN <<a\n", "ONBUILD ", "RUN \\\n", " \\\n", "ARG A=$A\n", "${A:-", '["', "[" * 9])
def test_reading_takes_no_longer_than_the_text_is_long(line: str) -> None:
    begun = time.monotonic()
    dockerfile = parse("FROM a\nADD " + line * (200_000 // len(line)))
    refusals = [*dockerfile.unclear, *unclear_images(dockerfile), *reaching_out(dockerfile)]
    assert time.monotonic() - begun < 5, len(refusals)

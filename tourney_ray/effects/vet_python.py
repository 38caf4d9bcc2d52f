"""Python source that decodes data and runs it, judged by its syntax tree; nothing is imported or run.

What is decoded is followed through variables, attributes, functions and arguments, so that a detour hides nothing.
"""

from __future__ import annotations

import ast
import codecs
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from tourney_ray.core.quoting import shown
from tourney_ray.effects.findings import Finding, Rule
from tourney_ray.effects.python_flow import Flow, Scopes
from tourney_ray.effects.python_names import Names, constant_text
from tourney_ray.effects.vet_shell import runs_decoded_text

_CODE_RUNNERS = frozenset({"exec", "eval", "compile", "types.FunctionType"})
_RUNNERS = _CODE_RUNNERS | {"__import__", "importlib.import_module"}
_COMMANDS = frozenset(
    {f"os.{name}" for name in ("system", "popen", "execv", "execvp", "execl", "execlp", "spawnl", "spawnv")}
    | {f"subprocess.{name}" for name in ("run", "call", "Popen", "check_call", "check_output", "getoutput")}
)
_PARSERS = frozenset({"json.loads", "json.load", "yaml.safe_load", "int", "float", "len"})
"""What makes settings of decoded text: to start a command with a setting is not to run what was decoded."""
_UNPICKLERS = frozenset(
    f"{module}.{name}"
    for module in ("pickle", "_pickle", "cPickle", "marshal", "dill", "cloudpickle")
    for name in ("loads", "load")
)
_DECODERS = (
    frozenset(
        f"base64.{name}"
        for name in (
            "b64decode", "b32decode", "b16decode", "b85decode", "a85decode", "urlsafe_b64decode", "standard_b64decode",
            "b32hexdecode", "decodebytes", "decodestring", "decode",
        )
    )
    | frozenset(f"binascii.{name}" for name in ("unhexlify", "a2b_hex", "a2b_base64", "a2b_uu", "a2b_qp"))
    | frozenset(f"{module}.decompress" for module in ("zlib", "gzip", "bz2", "lzma"))
    | frozenset({"codecs.decode", "codecs.getdecoder", "bytes.fromhex", "bytearray.fromhex", "chr"})
    | frozenset({"marshal.loads", "marshal.load"})
)  # fmt: skip
_DECODING_METHODS = frozenset({"b64decode", "decompress", "unhexlify", "fromhex", "decrypt", "to_bytes", "translate"})
_TEXT_CODECS = re.compile(r"utf-8(-sig)?|ascii|iso8859-\d+|cp\d+|koi8-\w|gb\w+|big5\w*|euc_\w+|shift_jis\w*|mac-\w+")
_MODULES = frozenset({"base64", "binascii", "zlib", "gzip", "bz2", "lzma", "codecs", "builtins", "os", "subprocess"})
_HIDDEN = frozenset({"exec", "eval"})
_SHELLS = re.compile(r"(.*/)?(python[0-9.]*|(ba|da|z|k)?sh)")
_LITERAL = 32
"""Characters from which a constant is a payload rather than a name."""
_ENCODED = 10_000
"""Characters of encoded data that no reviewer reads; honest look-up tables stay below."""
_ENCODED_TEXT = re.compile(r"[A-Za-z0-9+/=_\-]+")
_BINARY = 1024
"""Characters from which a constant of mostly unprintable ones counts as binary data."""
_UNPRINTABLE_SHARE = 0.3
_SPACE_SHARE = 0.05
"""Of prose a sixth is white space; of encoded data in lines of 60 or more, a sixtieth."""


def python_findings(file: str, source: bytes) -> Iterator[Finding]:
    """Every place of a Python file that runs decoded data, hides what it runs or holds an unreadable payload."""
    if odd := _odd_encoding(source):
        yield Finding(file=file, line=1, rule=Rule.UNREADABLE_SOURCE, detail=odd)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        yield from (found.in_file(file) for found in sorted(_Module(tree).suspicions()))
    except (SyntaxError, ValueError):
        if line := runs_decoded_text(source.decode("utf-8", "replace")):
            yield Finding(file=file, line=line, rule=Rule.RUNS_DECODED_DATA, detail="exec of decoded data")
    except (RecursionError, MemoryError):
        yield Finding(file=file, line=0, rule=Rule.UNREADABLE_SOURCE, detail="nested too deeply")


def _odd_encoding(source: bytes) -> str:
    """The declared encoding, when it is one that turns one text into another."""
    try:
        declared = tokenize.detect_encoding(io.BytesIO(source).readline)[0]
        name = codecs.lookup(declared).name
    except (SyntaxError, LookupError) as error:
        cookie = re.match(rb"(?:[^\n]*\n)?[ \t\f]*#.*?coding[:=]", source)
        return shown(str(error)) if cookie else ""
    return "" if _TEXT_CODECS.fullmatch(name) else f"encoding {shown(declared)}"


@dataclass(frozen=True, order=True)
class _Suspicion:
    line: int
    rule: Rule
    detail: str

    def in_file(self, file: str) -> Finding:
        return Finding(file=file, line=self.line, rule=self.rule, detail=self.detail)


class _Module:
    """One module's syntax tree, its names, and where decoded data and payloads go in it."""

    def __init__(self, tree: ast.AST) -> None:
        self._nodes = list(ast.walk(tree))
        self._names = Names(self._nodes, _RUNNERS | _COMMANDS | _DECODERS | _MODULES)
        scopes = Scopes(tree)
        self._decoded = Flow(self._nodes, scopes, self._decoder)
        self._spelled = Flow(self._nodes, scopes, self._decoder, self._parses)
        self._payloads = Flow(self._nodes, scopes, _payload)

    def suspicions(self) -> set[_Suspicion]:
        """Everything suspicious, once."""
        found: set[_Suspicion] = set()
        for node in self._nodes:
            if isinstance(node, ast.Constant) and (detail := _encoded(node.value)):
                found.add(_Suspicion(node.lineno, Rule.ENCODED_LITERAL, detail))
            if isinstance(node, ast.Call | ast.Subscript) and (detail := self._hidden(node)):
                found.add(_Suspicion(node.lineno, Rule.HIDES_WHAT_IT_RUNS, detail))
            if isinstance(node, ast.Call) and (detail := self._run(node)):
                found.add(_Suspicion(node.lineno, Rule.RUNS_DECODED_DATA, detail))
            if isinstance(node, ast.Call) and (detail := self._unpickled(node)):
                found.add(_Suspicion(node.lineno, Rule.UNPICKLES_A_LITERAL, detail))
        return found

    def _run(self, call: ast.Call) -> str:
        """`exec of base64` and the like: what `call` runs that was decoded."""
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        runner = self._names.dotted(call.func)
        arguments = list(self._run_arguments(runner, call))
        if runner not in _RUNNERS | _COMMANDS:
            runner = next((name for argument in given if (name := self._names.dotted(argument)) in _RUNNERS), "")
            arguments = given if runner else []
        flow = self._decoded if runner in _CODE_RUNNERS else self._spelled
        source = next((word for argument in arguments if (word := flow.source(argument))), "")
        return f"{runner} of {source}" if source else ""

    def _run_arguments(self, runner: str, call: ast.Call) -> Iterator[ast.expr]:
        """The arguments that are run, not those that are only handed to what runs."""
        named = {keyword.arg or "": keyword.value for keyword in call.keywords}
        yield from call.args[: None if runner.startswith("os.") else 1]
        yield from (named[name] for name in ("source", "expression", "args", "code") if name in named)
        if runner in _COMMANDS and "input" in named and call.args and any(map(_is_shell, ast.walk(call.args[0]))):
            yield named["input"]

    def _unpickled(self, call: ast.Call) -> str:
        """The function by which `call` unpickles what the source spells out; the name of a file is no such thing."""
        function = self._names.dotted(call.func)
        if function not in _UNPICKLERS or not call.args:
            return ""
        from_file = function.endswith(".load") and not any(map(self._is_buffer, ast.walk(call.args[0])))
        return function if not from_file and self._payloads.source(call.args[0]) else ""

    def _hidden(self, node: ast.Call | ast.Subscript) -> str:
        """`exec` or `eval`, when `node` fetches it by its name as a string."""
        fetched = isinstance(node, ast.Subscript) or self._names.dotted(node.func) == "getattr"
        name = self._names.dotted(node) if fetched else ""
        return f"{name} fetched by name" if name in _HIDDEN else ""

    def _parses(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and self._names.dotted(node.func) in _PARSERS

    def _is_buffer(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Call) and self._names.dotted(node.func).removeprefix("io.") == "BytesIO"

    def _decoder(self, node: ast.AST) -> str:
        """The decoder that `node` itself is, in a word: `base64`, `zlib`, `hex`, …"""
        match node:
            case ast.Call(func=ast.Attribute(attr="decode"), args=[codec, *_]) if _transforms(codec):
                return constant_text(codec) or ""
            case ast.Call(
                func=ast.Name(id="bytes" | "bytearray"), args=[ast.List() | ast.Tuple() | ast.GeneratorExp()]
            ):
                return "a list of bytes"
            case ast.Subscript(value=ast.Constant(value=str()), slice=ast.Slice()) if constant_text(node):
                return "a reversed string"
            case ast.expr():
                name = self._names.dotted(node)
                known = name in _DECODERS or (isinstance(node, ast.Attribute) and node.attr in _DECODING_METHODS)
                return _word(name or getattr(node, "attr", "")) if known else ""
            case _:
                return ""


def _word(decoder: str) -> str:
    module, _, name = decoder.rpartition(".")
    return "hex" if name == "fromhex" else module if module in _MODULES | {"marshal"} else name


def _transforms(codec: ast.expr) -> bool:
    """Whether decoding by `codec` turns data into other data, as rot13 does, instead of bytes into text."""
    try:
        return not codecs.lookup(constant_text(codec) or "utf-8")._is_text_encoding
    except LookupError:
        return False


def _payload(node: ast.AST) -> str:
    """`a literal` when `node` is a constant that could be a payload: long bytes, or long text that is no prose."""
    value = node.value if isinstance(node, ast.Constant) else None
    if not isinstance(value, str | bytes) or len(value) < _LITERAL:
        return ""
    encoded = isinstance(value, bytes) or not value.isprintable() or _ENCODED_TEXT.fullmatch(value)
    return "a literal" if encoded and not (isinstance(value, str) and " " in value) else ""


def _is_shell(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and _SHELLS.fullmatch(node.value) is not None


def _encoded(value: object) -> str:
    """What makes a constant unreadable: so long and so encoded that no reviewer reads it."""
    if not isinstance(value, str | bytes) or len(value) < _BINARY:
        return ""
    text = value if isinstance(value, str) else value.decode("latin-1")
    unprintable = sum(not (c.isprintable() or c.isspace()) or "\x7f" <= c <= "\xff" for c in text)
    if unprintable > _UNPRINTABLE_SHARE * len(text):
        return f"{len(text)} characters of binary data"
    packed = "".join(text.split())
    if len(packed) < _ENCODED or len(text) - len(packed) > _SPACE_SHARE * len(text):
        return ""
    return f"{len(packed)} characters" if _ENCODED_TEXT.fullmatch(packed) else ""

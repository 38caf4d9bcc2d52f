"""What the names of a Python module stand for, as far as its text alone tells: imports, aliases, constant strings.

Reads syntax trees; never imports or runs anything.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence

_ALIASES_OF_ALIASES = 3
_TEXT_JOINED = 4096
"""Longest constant string that is put together, characters."""


class Names:
    """Resolves expressions of one module to dotted names such as `base64.b64decode`, through its aliases."""

    def __init__(self, nodes: Sequence[ast.AST], worth_following: frozenset[str]) -> None:
        """Collect the imports among `nodes`, all of the module's, and assignments of anything in `worth_following`."""
        self._aliases: dict[str, str] = {}
        self._found: dict[ast.expr, str] = {}
        for node in nodes:
            self._aliases.update(_imported(node))
        for _ in range(_ALIASES_OF_ALIASES):
            for target, value in assignments(nodes):
                if isinstance(target, ast.Name) and (name := self.dotted(value)) in worth_following:
                    self._aliases[target.id] = name
            self._found.clear()

    def dotted(self, node: ast.expr) -> str:
        """The dotted name of `node`, without `builtins.`; empty when it has none."""
        return self._dotted(node).replace("__builtins__", "builtins").removeprefix("builtins.")

    def _dotted(self, node: ast.expr) -> str:
        """Each node is resolved once, so that long chains take time in proportion to their length."""
        if node not in self._found:
            self._found[node] = self._resolved(node)
        return self._found[node]

    def _resolved(self, node: ast.expr) -> str:
        match node:
            case ast.Name():
                return self._aliases.get(node.id, node.id)
            case ast.Attribute():
                return _join(self._dotted(node.value), node.attr)
            case ast.Subscript():
                return self._item(node)
            case ast.Call():
                return self._called(node)
            case _:
                return ""

    def _item(self, node: ast.Subscript) -> str:
        base, key = self._dotted(node.value), constant_text(node.slice)
        if key is None:
            return ""
        if base in {"globals()", "locals()"}:
            return self._aliases.get(key, key)
        holds_names = base in {"__builtins__", "sys.modules"} or base.endswith(".__dict__")
        return _join("" if base == "sys.modules" else base.removesuffix(".__dict__"), key) if holds_names else ""

    def _called(self, node: ast.Call) -> str:
        function = self.dotted(node.func)
        given = [constant_text(argument) for argument in node.args]
        if function in {"__import__", "importlib.import_module"} and given and given[0]:
            return given[0]
        if function == "getattr" and len(given) > 1 and given[1]:
            return _join(self._dotted(node.args[0]), given[1])
        if function == "vars" and node.args:
            return _join(self._dotted(node.args[0]), "__dict__")
        return f"{function}()" if function in {"globals", "locals"} else ""


def assignments(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Every (target, value) of assignments of all kinds, tuples and lists of targets taken apart."""
    for node in nodes:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _paired(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield target, value
            case ast.AugAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
                yield target, value
            case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                yield from _paired(target, value)
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                yield target, value
            case _:
                pass


def constant_text(node: ast.expr) -> str | None:
    """The string or bytes that `node` always is, bytes as Latin-1; None when that cannot be told."""
    match node:
        case ast.Constant(value=str() | bytes() as value):
            return (value if isinstance(value, str) else value.decode("latin-1"))[:_TEXT_JOINED]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _concatenated([left, right])
        case ast.JoinedStr(values=values):
            return _concatenated(part.value if isinstance(part, ast.FormattedValue) else part for part in values)
        case ast.Subscript(value=value, slice=ast.Slice(lower=None, upper=None, step=ast.UnaryOp(op=ast.USub()))):
            text = constant_text(value)
            return None if text is None else text[::-1]
        case ast.Call():
            return _called_text(node)
        case _:
            return None


def _called_text(node: ast.Call) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id="chr"), args=[ast.Constant(value=int() as number)]):
            return chr(number) if 0 <= number <= sys.maxunicode else None
        case ast.Call(
            func=ast.Attribute(value=between, attr="join"), args=[ast.List(elts=parts) | ast.Tuple(elts=parts)]
        ):
            return _concatenated(parts) if constant_text(between) == "" else None
        case ast.Call(func=ast.Attribute(value=data, attr="decode")):
            return constant_text(data) if not node.args else None
        case _:
            return None


def _concatenated(parts: Iterable[ast.expr]) -> str | None:
    texts = [constant_text(part) for part in parts]
    return None if None in texts else "".join(text for text in texts if text is not None)[:_TEXT_JOINED]


def _paired(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if not isinstance(target, ast.Tuple | ast.List):
        yield target, value
        return
    alike = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
    values = value.elts if alike and isinstance(value, ast.Tuple | ast.List) else [value] * len(target.elts)
    for one, its in zip(target.elts, values, strict=True):
        yield from _paired(one, its)


def _imported(node: ast.AST) -> dict[str, str]:
    match node:
        case ast.Import(names=names):
            return {alias.asname: alias.name for alias in names if alias.asname}
        case ast.ImportFrom(names=names, module=module, level=0):
            return {alias.asname or alias.name: f"{module}.{alias.name}" for alias in names}
        case _:
            return {}


def _join(base: str, name: str) -> str:
    return f"{base}.{name}" if base else name

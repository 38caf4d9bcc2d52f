"""Where data goes in a Python module, as far as its text alone tells: through names, attributes, returns and arguments.

Local names belong to their function. Attributes are told apart by name only: one that something reaches on any object
counts as reached on all.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence

from tourney_ray.effects.python_names import assignments

Origin = Callable[[ast.AST], str]
"""What a single node brings into the module, in a word; empty when it brings nothing."""

Stops = Callable[[ast.AST], bool]
"""Whether nothing is followed out of a node."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Scope = _Function | ast.Lambda | ast.ClassDef


def _never(_node: ast.AST) -> bool:
    return False


class Flow:
    """Follows what `origin` recognises through one module, but not through what `stops` says changes its nature."""

    def __init__(self, nodes: Sequence[ast.AST], scopes: Scopes, origin: Origin, stops: Stops = _never) -> None:
        """Find every name that is reached; `nodes` are all of the module's."""
        self._origin = origin
        self._stops = stops
        self._scopes = scopes
        self._reached: dict[str, str] = {}
        readers: dict[str, set[str]] = {}
        for key, value in _bindings(nodes, scopes):
            for node in self._within(value):
                if word := origin(node):
                    self._reached.setdefault(key, word)
                readers.setdefault(scopes.key(node), set()).add(key)
        self._spread(readers)

    def source(self, expression: ast.expr) -> str:
        """What reached `expression`, in the word of its origin; empty when nothing did."""
        for node in self._within(expression):
            if word := self._origin(node) or self._reached.get(self._scopes.key(node), ""):
                return word
        return ""

    def _within(self, expression: ast.AST) -> Iterator[ast.AST]:
        todo = [expression]
        while todo:
            node = todo.pop()
            if not self._stops(node):
                yield node
                todo.extend(ast.iter_child_nodes(node))

    def _spread(self, readers: dict[str, set[str]]) -> None:
        todo = list(self._reached)
        while todo:
            used = todo.pop()
            for key in sorted(readers.get(used, set()) - self._reached.keys()):
                self._reached[key] = self._reached[used]
                todo.append(key)


class Scopes:
    """Which function, lambda or class each name of a module belongs to."""

    def __init__(self, tree: ast.AST) -> None:
        """Walk `tree` once."""
        self._inside: dict[ast.AST, ast.AST] = {}
        self._around: dict[ast.AST, ast.AST] = {}
        self._bound: dict[ast.AST, set[str]] = {tree: set()}
        shared: list[tuple[ast.AST, str]] = []
        todo = [(tree, tree)]
        while todo:
            node, scope = todo.pop()
            self._inside[node] = scope
            self._bound[scope].update(_bound_names(node))
            if isinstance(node, ast.Global | ast.Nonlocal):
                shared.extend((scope, name) for name in node.names)
            if isinstance(node, _Scope):
                self._around[node], self._bound[node] = scope, set()
                scope = node
            todo.extend((child, scope) for child in ast.iter_child_nodes(node))
        for scope, name in shared:
            self._bound[scope].discard(name)

    def key(self, node: ast.AST) -> str:
        """Under which key a name or attribute is followed; empty for anything else."""
        match node:
            case ast.Name(id=name):
                return self.key_in(self._inside[node], name)
            case ast.Attribute(attr=name):
                return f".{name}"
            case _:
                return ""

    def key_in(self, scope: ast.AST, name: str) -> str:
        """The key of `name` as `scope` sees it."""
        while name not in self._bound[scope] and scope in self._around:
            scope = self._around[scope]
        return f"{id(scope)} {name}"

    def keys_of(self, function: _Function) -> Iterator[str]:
        """The keys that `function` itself answers to: its name and, as a method, the attribute."""
        scope = self._inside[function]
        yield f".{function.name}" if isinstance(scope, ast.ClassDef) else self.key_in(scope, function.name)


def _bound_names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case _:
            return


def _bindings(nodes: Sequence[ast.AST], scopes: Scopes) -> Iterator[tuple[str, ast.expr]]:
    """Every (key, expression) where the value of the expression may end up under the key."""
    for target, value in assignments(nodes):
        holder = target.value if isinstance(target, ast.Subscript | ast.Starred) else target
        if key := scopes.key(holder):
            yield key, value
    functions: dict[str, _Function] = {}
    for function in (node for node in nodes if isinstance(node, _Function)):
        for key in scopes.keys_of(function):
            functions[key] = function
            yield from ((key, value) for value in _returned(function))
    for node in nodes:
        if isinstance(node, ast.Call) and (function := functions.get(scopes.key(node.func))):
            yield from ((scopes.key_in(function, name), value) for name, value in _passed(node, function))


def _returned(function: _Function) -> Iterator[ast.expr]:
    for inner in ast.walk(function):
        if isinstance(inner, ast.Return | ast.Yield | ast.YieldFrom) and inner.value is not None:
            yield inner.value


def _passed(call: ast.Call, function: _Function) -> Iterator[tuple[str, ast.expr]]:
    """Parameters of `function` with what `call` passes for them."""
    names = [parameter.arg for parameter in (*function.args.posonlyargs, *function.args.args)]
    skipped = 1 if names[:1] in (["self"], ["cls"]) else 0
    yield from zip(names[skipped:], call.args, strict=False)
    yield from ((keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg)

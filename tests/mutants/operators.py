"""Small changes to Python: an operator, a number, a word, a statement that isn't executed."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
_OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_NOT_CHANGED = {"annotation", "returns", "decorator_list", "type_params"}
_LOGGERS = {"log", "_log", "logging"}


@dataclass(frozen=True)
class Mutant:
    """One change: the statement, or its head, `before` and `after`; `number` is the change's in its file.

    `lines` are those of the statement. `at_import`: it is outside of functions; `name` is what it assigns to.
    """

    file: str
    number: int
    line: int
    before: str
    after: str
    lines: tuple[int, ...]
    at_import: bool
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


@dataclass
class _Place:
    """The statement that a node is in, and whether it runs when its module is imported."""

    statement: ast.stmt
    in_function: bool


def mutants(file: str, text: str) -> Iterator[Mutant]:
    """All changes to a file, in the order of its lines."""
    tree = ast.parse(text)
    for number, (place, parent, field, index, new) in enumerate(list(_points(tree, None))):
        statement = place.statement
        before = _head(statement)
        old = _exchange(parent, field, index, new)
        after = (
            "(left out)"
            if isinstance(new, ast.Pass)
            else _head(new if isinstance(new, ast.stmt) else statement)
        )
        _exchange(parent, field, index, old)
        name = "" if place.in_function else _assigned(statement)
        at_import = not place.in_function and not isinstance(
            statement, ast.FunctionDef | ast.AsyncFunctionDef
        )
        yield Mutant(file, number, statement.lineno, before, after, _lines(statement), at_import, name)


def changed(text: str, number: int) -> str:
    """The whole file with one of its changes."""
    tree = ast.parse(text)
    _place, parent, field, index, new = list(_points(tree, None))[number]
    _exchange(parent, field, index, new)
    return ast.unparse(tree) + "\n"


def unchanged(text: str) -> str:
    """A file as it looks where nothing was changed: without comments."""
    return ast.unparse(ast.parse(text)) + "\n"


def _exchange(parent: ast.AST, field: str, index: int | None, new: object) -> object:
    if index is None:
        old = getattr(parent, field)
        setattr(parent, field, new)
    else:
        values = getattr(parent, field)
        old, values[index] = values[index], new
    return old


_Point = tuple[_Place, ast.AST, str, int | None, object]


def _points(parent: ast.AST, place: _Place | None) -> Iterator[_Point]:
    """Every place and what may stand there instead."""
    for field, value in ast.iter_fields(parent):
        if field in _NOT_CHANGED:
            continue
        several = isinstance(value, list)
        for index, node in enumerate(value if several else [value]):
            if not isinstance(node, ast.AST) or _is_left_alone(node):
                continue
            inside = _place(node, place)
            if inside is None:
                continue
            for new in _instead_of(node, parent):
                yield inside, parent, field, index if several else None, new
            for new in _of_parts(node):
                yield (inside, *new)
            yield from _points(node, inside)


def _place(node: ast.AST, place: _Place | None) -> _Place | None:
    if not isinstance(node, ast.stmt):
        return place
    in_function = place is not None and (
        place.in_function or isinstance(place.statement, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return _Place(node, in_function)


def _is_left_alone(node: ast.AST) -> bool:
    """Words for loggers, documentation, what is for type checkers, and asserts, which are for them, too."""
    match node:
        case ast.Assert() | ast.Import() | ast.ImportFrom() | ast.Global() | ast.Nonlocal():
            return True
        case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
            return name in _LOGGERS
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar")) | ast.Subscript()):
            # A name for a type.
            return isinstance(node.value, ast.Call) or _is_type(node.value)
        case ast.Assign(value=ast.Call(func=ast.Attribute(attr="getLogger"))):
            return True
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
    return False


def _is_type(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id[:1].isupper()
    )


def _instead_of(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of a node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(number)):
            yield ast.Constant(number + 1)
        case ast.Constant(value=float(number)):
            yield ast.Constant(number * 10 or 1.0)
        case ast.Constant(value=str(text)) if text and not isinstance(parent, ast.JoinedStr):
            # What is stripped is a set of characters.
            yield ast.Constant("\0" if _strips(parent) else f"X{text}X")
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.BinOp() if type(node.op) in _ARITHMETIC and not _is_union(node):
            yield ast.BinOp(node.left, _ARITHMETIC[type(node.op)](), node.right)
        case ast.AugAssign() if type(node.op) in _ARITHMETIC:
            new = copy.copy(node)
            new.op = _ARITHMETIC[type(node.op)]()
            yield new
        case ast.Call(func=ast.Name(id=name)) if name in _OPPOSITES:
            yield ast.Call(ast.Name(_OPPOSITES[name], ast.Load()), node.args, node.keywords)
        case ast.Break():
            yield ast.copy_location(ast.Continue(), node)
        case ast.Continue():
            yield ast.copy_location(ast.Break(), node)
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            new_return = copy.copy(node)
            new_return.value = ast.Constant(None)
            yield new_return
        case ast.Raise() | ast.Delete():
            yield ast.copy_location(ast.Pass(), node)
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield ast.copy_location(ast.Pass(), node)
        case ast.Assign() if all(isinstance(one, ast.Attribute | ast.Subscript) for one in node.targets):
            yield ast.copy_location(ast.Pass(), node)


def _of_parts(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, object]]:
    """Parts of a node that are no nodes of their own kind: comparisons, conditions, text between values."""
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            yield node, "ops", index, _COMPARISONS[type(operator)]()
    if isinstance(node, ast.If | ast.While | ast.IfExp) and _is_plain(node.test):
        yield node, "test", None, ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.comprehension):
        for index, test in enumerate(node.ifs):
            if _is_plain(test):
                yield node, "ifs", index, ast.UnaryOp(ast.Not(), test)
    if isinstance(node, ast.JoinedStr):
        texts = [
            (len(part.value), index)
            for index, part in enumerate(node.values)
            if isinstance(part, ast.Constant) and part.value.strip()
        ]
        if texts:
            index = max(texts)[1]
            yield node, "values", index, ast.Constant(f"X{node.values[index].value}X")  # type: ignore[attr-defined]


def _strips(parent: ast.AST) -> bool:
    return (
        isinstance(parent, ast.Call)
        and isinstance(parent.func, ast.Attribute)
        and parent.func.attr in ("strip", "lstrip", "rstrip")
    )


def _is_plain(test: ast.expr) -> bool:
    """Without an operator that is changed itself."""
    return not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant)


def _is_union(node: ast.BinOp) -> bool:
    """X | None, or X | Y of names in capitals: a type."""
    if not isinstance(node.op, ast.BitOr):
        return False
    sides = [node.left, node.right]
    return any(isinstance(side, ast.Constant) and side.value is None for side in sides) or all(
        isinstance(side, ast.Name) and side.id[:1].isupper() and not side.id.isupper() for side in sides
    )


def _head(statement: ast.stmt) -> str:
    """A statement in one line, without the statements in it."""
    short = copy.copy(statement)
    for field in ("body", "orelse", "finalbody", "handlers", "cases", "decorator_list"):
        if isinstance(getattr(short, field, None), list) and not isinstance(short, ast.Expr):
            setattr(short, field, [])
    return " ".join(ast.unparse(short).split())


def _lines(statement: ast.stmt) -> tuple[int, ...]:
    """Of a statement without those in it."""
    body = getattr(statement, "body", None)
    inner = body[0].lineno if isinstance(body, list) and body else None
    end = statement.end_lineno or statement.lineno
    first = min([statement.lineno, *(one.lineno for one in getattr(statement, "decorator_list", ()))])
    return tuple(range(first, max(first + 1, inner) if inner else end + 1))


def _assigned(statement: ast.stmt) -> str:
    """The one name that a statement assigns to."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""

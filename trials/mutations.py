"""Small mistakes, made one at a time in a module's source: what a test must notice to be worth its name.

The kinds are those of mutmut (3.8), and beside them: boundaries of slices, one operand of two, statements left out,
conditions that always or never hold, loops that run once or not at all, calls left out of a chain, pairs of functions
that are mistaken for each other, decorators. Types, protocols, docstrings and imports are left alone: they compute
nothing.
"""

from __future__ import annotations

import ast
import copy
import difflib
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
PAIRS = (
    "min max|amin amax|minimum maximum|fmin fmax|clamp_min clamp_max|argmin argmax|any all|sum mean|exp log|floor ceil|"
    "zeros ones|zeros_like ones_like|softmax log_softmax|lower upper|lstrip rstrip|ljust rjust|find rfind|index rindex|"
    "partition rpartition|split rsplit|removeprefix removesuffix|startswith endswith|append extend|keys values|"
    "union intersection|first last|unlink touch|copy deepcopy"
)
MISTAKEN = {a: b for pair in PAIRS.split("|") for a, b in (pair.split(), pair.split()[::-1])}

Slot = tuple[ast.AST, str, int | None]  #: parent, field, place in the field's list


@dataclass(frozen=True)
class Mutant:
    """A module with one mistake in it."""

    line: int  #: of the original
    kind: str
    before: str  #: the statement's line, as `ast.unparse` writes it
    after: str
    source: str  #: of the whole module


def mutants(source: str) -> list[Mutant]:
    """Every mistake there is to make, in the order of lines; no module comes twice, nor the one that was given."""
    tree = ast.parse(source)
    right = ast.unparse(tree)
    found, known = [], {right}
    for slot in _slots(tree):
        node = _get(slot)
        for kind, other in _mistakes(node, slot):
            _put(slot, other)
            wrong = ast.unparse(ast.fix_missing_locations(tree))
            _put(slot, node)
            if wrong not in known and _compiles(wrong):
                known.add(wrong)
                found.append(Mutant(node.lineno, kind, *_difference(right, wrong), wrong))  # type: ignore[attr-defined]
    return sorted(found, key=lambda mutant: mutant.line)


def _compiles(source: str) -> bool:
    try:
        compile(source, "", "exec")
    except SyntaxError:
        return False
    return True


def _difference(right: str, wrong: str) -> tuple[str, str]:
    lines = [line for line in difflib.ndiff(right.splitlines(), wrong.splitlines()) if line[:2] in ("- ", "+ ")]
    sides = ["; ".join(line[2:].strip() for line in lines if line[0] == side) for side in "-+"]
    return sides[0], sides[1]


# ---- where ----------------------------------------------------------------------------------------------------------


def _get(slot: Slot) -> ast.AST:
    parent, field, place = slot
    value = getattr(parent, field)
    return value if place is None else value[place]  # type: ignore[no-any-return]


def _put(slot: Slot, node: ast.AST) -> None:
    parent, field, place = slot
    if place is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[place] = node


def _slots(node: ast.AST) -> Iterator[Slot]:
    """Every place of the tree where something stands that computes."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "type_comment", "ctx", "op", "ops", "format_spec"):
            continue
        for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _speaks_only(child) or _is_type(child, node):
                continue
            if hasattr(child, "lineno"):
                yield node, field, place
            yield from _slots(child)


def _speaks_only(node: ast.AST) -> bool:
    """Imports, docstrings, protocols."""
    if isinstance(node, ast.ClassDef):
        return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _is_type(node: ast.AST, parent: ast.AST) -> bool:
    """``Array = NDArray[np.float64]`` at the module's level; the bases of a class."""
    alias = isinstance(parent, ast.Module) and isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)
    return alias or (isinstance(parent, ast.ClassDef) and isinstance(node, ast.expr) and node in parent.bases)


# ---- what -----------------------------------------------------------------------------------------------------------


def _mistakes(node: ast.AST, slot: Slot) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.stmt):
        yield from _of_a_statement(node)
    elif isinstance(node, ast.Constant):
        yield from (("constant", ast.Constant(value)) for value in _other_values(node.value))
    elif isinstance(node, ast.Call):
        yield from _of_a_call(node)
    elif isinstance(node, ast.expr):
        yield from _of_an_expression(node)
    if isinstance(node, ast.expr) and isinstance(slot[0], ast.Slice):
        yield from (("slice", ast.BinOp(node, op, ast.Constant(1))) for op in (ast.Add(), ast.Sub()))
    if isinstance(node, ast.expr) and slot[1] in ("test", "ifs"):
        yield from (("condition", ast.Constant(value)) for value in (True, False))


def _other_values(value: object) -> tuple[object, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return value + 1, value - 1
    if isinstance(value, float):
        return value + 1, value / 2
    if isinstance(value, str):
        return f"XX{value}XX", value.swapcase()
    return (value + b"XX",) if isinstance(value, bytes) else ()


def _of_an_expression(node: ast.expr) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for other in COMPARISONS[type(op)]:
                ops = [*node.ops[:i], other(), *node.ops[i + 1 :]]
                yield "comparison", ast.Compare(node.left, ops, node.comparators)
    elif isinstance(node, ast.BinOp):
        yield "arithmetic", ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
        yield from (("operand", side) for side in (node.left, node.right))
    elif isinstance(node, ast.BoolOp):
        yield "boolean", ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
        for i in range(len(node.values)):
            yield "operand", ast.BoolOp(node.op, [*node.values[:i], *node.values[i + 1 :]])
    elif isinstance(node, ast.UnaryOp):
        yield "unary", node.operand
    elif isinstance(node, ast.IfExp):
        yield from (("condition", arm) for arm in (node.body, node.orelse))
    elif isinstance(node, ast.Slice):
        if node.lower:
            yield "slice", ast.Slice(None, node.upper, node.step)
        if node.upper:
            yield "slice", ast.Slice(node.lower, None, node.step)
    elif isinstance(node, ast.Lambda):
        yield "return", ast.Lambda(node.args, ast.Constant(None))
    elif isinstance(node, ast.Attribute) and node.attr in MISTAKEN:
        yield "mistaken", ast.Attribute(node.value, MISTAKEN[node.attr], node.ctx)
    elif isinstance(node, ast.Name) and node.id in MISTAKEN and isinstance(node.ctx, ast.Load):
        yield "mistaken", ast.Name(MISTAKEN[node.id], node.ctx)


def _of_a_call(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    args, keywords = node.args, node.keywords
    if isinstance(node.func, ast.Attribute):
        yield "call left out", node.func.value
    if len(args) == 1:
        yield "call left out", args[0].value if isinstance(args[0], ast.Starred) else args[0]
    for i, arg in enumerate(args):
        yield "argument", ast.Call(node.func, [*args[:i], *args[i + 1 :]], keywords)
        if not isinstance(arg, ast.Starred):
            yield "argument", ast.Call(node.func, [*args[:i], ast.Constant(None), *args[i + 1 :]], keywords)
    for i, keyword in enumerate(keywords):
        none = ast.keyword(keyword.arg, ast.Constant(None))
        yield "argument", ast.Call(node.func, args, [*keywords[:i], *keywords[i + 1 :]])
        if keyword.arg is not None:
            yield "argument", ast.Call(node.func, args, [*keywords[:i], none, *keywords[i + 1 :]])


def _of_a_statement(node: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.Expr | ast.Assign | ast.AugAssign | ast.Raise | ast.Delete | ast.Assert):
        yield "statement", ast.Pass()
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        empty = isinstance(node.value, ast.Constant) and node.value.value is None
        yield "assignment", _with(node, value=ast.Constant("" if empty else None))
    if isinstance(node, ast.AugAssign):
        yield "assignment", ast.Assign([node.target], node.value)
        yield "arithmetic", ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
    if isinstance(node, ast.Return) and node.value is not None:
        yield "return", ast.Return(ast.Constant(None))
    if isinstance(node, ast.For):
        yield "loop", _with(node, iter=ast.Tuple([], ast.Load()))
        yield "loop", _with(node, body=[*node.body, ast.Break()])
    if isinstance(node, ast.Break | ast.Continue):
        yield "loop", ast.Continue() if isinstance(node, ast.Break) else ast.Break()
    if isinstance(node, ast.Match):
        for i in range(len(node.cases)):
            yield "condition", ast.Match(node.subject, [*node.cases[:i], *node.cases[i + 1 :]])
    if isinstance(node, ast.Try):
        for i in range(len(node.handlers) if len(node.handlers) > 1 or node.finalbody else 0):
            yield "statement", _with(node, handlers=[*node.handlers[:i], *node.handlers[i + 1 :]])
        if node.finalbody and node.handlers:
            yield "statement", _with(node, finalbody=[])
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        for i in range(len(node.decorator_list)):
            rest = [*node.decorator_list[:i], *node.decorator_list[i + 1 :]]
            yield "decorator", _with(node, decorator_list=rest)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """The same node with other children; those it keeps are shared."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other

"""The `forward` of a hand-written block, with the layers that follow each other in it as chains.

What follows what is read in the source: in `self.relu(self.norm(self.conv(x)))`, and in

    out = self.conv(x)
    out = self.norm(out)

nothing but the next layer can see what is between. So it is with the sum in `self.relu(self.norm(x) + identity)`, whose
other term is computed where it is added. Nothing else counts as neighbours: not a value that is used twice, has another
name, or goes through another operator. So nothing is guessed from a run, and no input or mode can make it wrong.
"""

import __future__

import ast
import functools
import inspect
import operator
import types
from typing import NamedTuple

CHAIN, PLUS = "_chain", "_plus"  # of a fused class
FUTURE = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)


def with_chains(function, owner: type):
    """`function`, a method of `owner`, with `self._chain(x, self.conv, self.norm, self.relu)` where layers follow.

    None where none do, or the source of the function is not known for sure.
    """
    if not isinstance(function, types.FunctionType) or inspect.isgeneratorfunction(function):
        return None
    definition = _definition(function)
    if definition is None:
        return None
    arguments = [*definition.args.posonlyargs, *definition.args.args]
    if not arguments or definition.decorator_list or _unclear(definition, arguments[0].arg):
        return None
    chains = _Chains(arguments[0].arg, owner, function.__code__.co_cellvars)
    chains.visit(definition)
    if not chains.found:
        return None
    code = _compiled(definition, function)
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
    closure = tuple(cells[name] for name in code.co_freevars)
    made = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    made.__kwdefaults__, made.__qualname__, made.__module__ = (
        function.__kwdefaults__, function.__qualname__, function.__module__
    )  # fmt: skip
    made.__doc__ = function.__doc__
    made.__dict__.update(function.__dict__)
    return made


def _definition(function) -> ast.FunctionDef | None:
    """In the source; None unless that is what runs: the file may have changed since it was imported."""
    code = function.__code__
    try:
        tree = ast.parse("".join(inspect.findsource(function)[0]))
        whole = compile(tree, code.co_filename, "exec", code.co_flags & FUTURE, dont_inherit=True)
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    place = (code.co_name, code.co_firstlineno)
    if not any(_same(one, code) for one in _codes(whole) if (one.co_name, one.co_firstlineno) == place):
        return None
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and (node.name, node.lineno) == place)
    return next(found, None)


def _compiled(definition: ast.FunctionDef, function) -> types.CodeType:
    """Its code, with the free variables that `function` has; nothing is run."""
    outer = ast.parse(f"def outer({', '.join(function.__code__.co_freevars)}): pass")
    outer.body[0].body = [definition]
    flags = function.__code__.co_flags & FUTURE
    code = compile(ast.fix_missing_locations(outer), function.__code__.co_filename, "exec", flags, dont_inherit=True)
    return next(one for one in _codes(code) if one.co_name == definition.name)


def _codes(code: types.CodeType):
    """All that are in `code`, outer ones first."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


def _same(code: types.CodeType, other: types.CodeType) -> bool:
    names = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars")
    if any(getattr(code, name) != getattr(other, name) for name in names) or len(code.co_consts) != len(
        other.co_consts
    ):
        return False
    return all(
        _same(mine, theirs) if isinstance(mine, types.CodeType) and isinstance(theirs, types.CodeType)
        else (type(mine), mine) == (type(theirs), theirs)
        for mine, theirs in zip(code.co_consts, other.co_consts)
    )  # fmt: skip


def _unclear(definition: ast.FunctionDef, self_name: str) -> bool:
    """Whether names may mean something else within an expression, or outside of their class."""
    rebinding = (ast.NamedExpr, ast.Global, ast.Nonlocal, ast.Await)
    return any(
        isinstance(node, rebinding)
        or (isinstance(node, ast.Attribute) and node.attr.startswith("__") and not node.attr.endswith("__"))
        or (isinstance(node, ast.Name) and node.id == self_name and not isinstance(node.ctx, ast.Load))
        for node in ast.walk(definition)
    )


class _Chains(ast.NodeTransformer):
    def __init__(self, self_name: str, owner: type, shared_names: tuple[str, ...]):
        self.self_name, self.owner, self.shared_names = self_name, owner, shared_names
        self.found = False

    def visit_FunctionDef(self, node):
        if not any(isinstance(inner, ast.Try) for inner in ast.walk(node)):  # whose handlers see what is half done
            for inner in ast.walk(node):
                for field in ("body", "orelse"):
                    if isinstance(statements := getattr(inner, field, None), list):
                        setattr(inner, field, self._joined(statements))
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def _joined(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        """`out = f(x)` and `out = g(out)` or `return g(out)` as one statement."""
        joined = []
        for statement in map(_without_augmentation, statements):
            if joined and self._continues(joined[-1], statement):
                _replace_innermost(statement, joined.pop().value)
            joined.append(statement)
        return joined

    def _continues(self, first: ast.stmt, second: ast.stmt) -> bool:
        name = _target(first)
        if name is None or name in self.shared_names or _link(first.value) is None:
            return False
        if not (isinstance(second, ast.Return) or _target(second) == name) or _link(second.value) is None:
            return False
        uses = [node for node in ast.walk(second.value) if isinstance(node, ast.Name) and node.id == name]
        return uses == [_innermost(second.value)]

    def visit_Call(self, node):
        calls, argument = [], node
        while (link := _link(argument)) is not None:
            call, argument = link
            calls.append(call)
        if not any(self._is_layer(call) for call in calls if not isinstance(call, _Plus)):
            return self.generic_visit(node)
        self.found = True
        steps = [self._step(call) for call in reversed(calls)]
        return ast.copy_location(ast.Call(self._own(CHAIN), [self.visit(argument), *steps], []), node)

    visit_BinOp = visit_Call

    def _step(self, call) -> ast.expr:
        if not isinstance(call, _Plus):
            return call
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        return ast.Call(self._own(PLUS), [ast.Lambda(nothing, self.visit(call.term)), ast.Constant(call.first)], [])

    def _own(self, name: str) -> ast.expr:
        return ast.Attribute(ast.Name(self.self_name, ast.Load()), name, ast.Load())

    def _is_layer(self, call: ast.expr) -> bool:
        """self.NAME..., where NAME is no method."""
        names = []
        while isinstance(call, ast.Attribute):
            names.append(call.attr)
            call = call.value
        return bool(names) and call.id == self.self_name and not hasattr(self.owner, names[-1])


class _Plus(NamedTuple):
    """A link that adds `term`, which is the first of the sum's two or the second."""

    term: ast.expr
    first: bool


def _link(node) -> tuple[ast.expr | _Plus, ast.expr] | None:
    """(what is called, its argument) of NAME.NAME(one argument) and of sums; None of anything else."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        if isinstance(node.left, ast.Name) and _is_call(node.right):  # a name can as well be read later
            return _Plus(node.left, True), node.right
        return _Plus(node.right, False), node.left
    return (node.func, node.args[0]) if _is_call(node) else None


def _is_call(node) -> bool:
    if not isinstance(node, ast.Call) or len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
        return False
    call = node.func
    while isinstance(call, ast.Attribute):
        call = call.value
    return isinstance(call, ast.Name)


def _innermost(node: ast.expr) -> ast.expr:
    """The argument of the first link."""
    while (link := _link(node)) is not None:
        node = link[1]
    return node


def _replace_innermost(statement: ast.stmt, new: ast.expr) -> None:
    old = _innermost(statement.value)

    class Replacing(ast.NodeTransformer):
        def visit(self, node):
            return new if node is old else super().visit(node)

    statement.value = Replacing().visit(statement.value)


def _without_augmentation(statement: ast.stmt) -> ast.stmt:
    """`out = out + y` for `out += y`: with tensors it is the same."""
    simple = isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name)
    if not simple or not isinstance(statement.op, ast.Add):
        return statement
    value = ast.BinOp(ast.Name(statement.target.id, ast.Load()), ast.Add(), statement.value)
    return ast.copy_location(ast.Assign([statement.target], value), statement)


def _target(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return None

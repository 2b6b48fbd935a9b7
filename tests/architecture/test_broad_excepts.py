"""Whoever catches errors of any kind lets Ctrl-C and SIGTERM through."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path.relative_to(REPOSITORY)
    for package in ("sfisep_core", "sfisep_cli")
    for path in (REPOSITORY / package).rglob("*.py")
)
BROAD = {"Exception", "BaseException"}


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler catches errors of any kind."""
    names = [] if handler.type is None else [ast.unparse(node) for node in ast.walk(handler.type)]
    return handler.type is None or not BROAD.isdisjoint(names)


def lets_signals_through(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler begins with `raise_received()`, or raises again what it caught."""
    first = ast.unparse(handler.body[0])
    raises = [node for node in ast.walk(handler) if isinstance(node, ast.Raise)]
    return first == "raise_received()" or any(node.exc is None for node in raises)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_broad_handlers_let_signals_through(path: Path) -> None:
    tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    wrong = [node.lineno for node in handlers if is_broad(node) and not lets_signals_through(node)]
    assert wrong == []
    # It swallows whatever is raised in its block, and says so nowhere.
    suppressed = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("suppress")
        and not BROAD.isdisjoint(map(ast.unparse, node.args))
    ]
    assert suppressed == []


@pytest.mark.parametrize(
    ("handler", "right"),
    [
        ("except Exception as error: raise ValueError from error", False),
        ("except: pass", False),
        ("except (OSError, BaseException): pass", False),
        ("except Exception:\n raise_received()\n pass", True),
        ("except Exception:\n if x: raise\n y = 1", True),
    ],
)
def test_the_rule_tells_them_apart(handler: str, right: bool) -> None:
    (node,) = [
        n for n in ast.walk(ast.parse(f"try: f()\n{handler}")) if isinstance(n, ast.ExceptHandler)
    ]
    assert is_broad(node)
    assert lets_signals_through(node) == right

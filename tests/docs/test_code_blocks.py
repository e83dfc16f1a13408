"""The Python in README and docs compiles and uses names and options that exist."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator

import pytest
from tests.docs.pages import PAGES, Block, blocks

from unitofwork import AsyncTransaction, AsyncUnitOfWork
from unitofwork.faces.base import WorkOptions
from unitofwork.types import Options

BLOCKS = [block for page in PAGES for block in blocks(page, "python")]
#: The names by which the pages call things, and what these are.
KINDS = {"tx": AsyncTransaction, "uow": AsyncUnitOfWork}


def tree_of(block: Block) -> ast.Module:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(block.text, str(block), "exec", flags)
    assert isinstance(tree, ast.Module)
    return tree


def mistakes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if "unitofwork" in module:
                found = importlib.import_module(module)
                yield from (each.name for each in names if not hasattr(found, each.name))
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in KINDS:
                if not hasattr(KINDS[name], attribute):
                    yield f"{name}.{attribute}"
            case ast.Call(func=function, keywords=keywords):
                allowed = options_of(function)
                given = [keyword.arg for keyword in keywords if keyword.arg]
                yield from (f"{each}=" for each in given if allowed and each not in allowed)


def options_of(function: ast.expr) -> set[str]:
    """What may be passed by keyword; empty where that is not for us to say."""
    match function:
        case ast.Name(id="uow" | "transactional"):
            return set(Options.__annotations__)
        case ast.Name(id="AsyncUnitOfWork" | "UnitOfWork"):
            return set(WorkOptions.__annotations__)
        case ast.Attribute(value=ast.Name(id=name), attr=method) if hasattr(
            KINDS.get(name), method
        ):
            parameters = inspect.signature(getattr(KINDS[name], method)).parameters
            kinds = {each.kind for each in parameters.values()}
            return set() if inspect.Parameter.VAR_KEYWORD in kinds else set(parameters)
    return set()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block(block: Block) -> None:
    """It compiles; what it imports from the library and uses of `tx` and `uow` is there."""
    assert list(mistakes(tree_of(block))) == []

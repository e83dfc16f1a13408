"""The pages explain every option and field, and give the defaults that hold."""

from __future__ import annotations

import dataclasses

import pytest
from tests.docs.pages import ROOT

from unitofwork import Holder, PoolStats, RetryPolicy
from unitofwork.policies.engine_defaults import CHECK_AFTER_IDLE, POOL, POSTGRESQL_SESSION
from unitofwork.types import Options, RetriedOptions

NAMES = {
    "units.md": {*Options.__annotations__, *RetriedOptions.__annotations__},
    "admission.md": {field.name for field in dataclasses.fields(PoolStats)},
    "watch.md": {field.name for field in dataclasses.fields(Holder)},
    "retry.md": {field.name for field in dataclasses.fields(RetryPolicy)},
    "engine.md": {*POOL, *POSTGRESQL_SESSION},
}


def rows(page: str) -> dict[str, list[str]]:
    """Of the page's tables: the further cells by each name in the first one."""
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "docs" / page).read_text().splitlines()
        if line.startswith("| `")
    ]
    return {name: cells for first, *cells in table for name in first.split("`")[1::2]}


@pytest.mark.parametrize("page", NAMES)
def test_every_name_is_explained(page: str) -> None:
    """Each has a row in a table of its page."""
    assert NAMES[page] - set(rows(page)) == set()


def test_defaults_of_engines() -> None:
    """The page's figures are those of the code."""
    told = {name: cells[0].removesuffix(" s") for name, cells in rows("engine.md").items()}
    for name, value in {**POOL, **POSTGRESQL_SESSION}.items():
        assert told[name] == ("yes" if value is True else f"{float(value):g}")
    assert CHECK_AFTER_IDLE == 1.0, "the page says: idle for over a second"


def test_defaults_of_retry() -> None:
    """The page's figures are those of the code."""
    told = rows("retry.md")
    default = RetryPolicy()
    assert told["attempts"][0] == str(default.attempts)
    assert told["timeout"][0] == f"{default.timeout:g} s"
    assert told["wait_initial"][0] == f"{default.wait_initial:g} s, {default.wait_max:g} s"

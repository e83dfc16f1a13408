"""`unitofwork locks`: writes the order file, and fails a build where it is not right."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from unitofwork.locks_command import locks

MODELS = """
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase): pass

class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)

class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lock_command_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(*arguments: str, stdin: str = "", models: str = "lock_command_models:Base") -> Result:
    app = typer.Typer()
    app.command()(locks)
    return CliRunner().invoke(app, [*arguments, models], input=stdin)


def test_write_and_check(project: Path) -> None:
    """What was written is complete, and writing it again says so."""
    assert run("--write", "order.txt").output == "appended shelf\nappended book\n"
    assert run("--write", "order.txt").output == "nothing new\n"
    checked = run("--check", "order.txt", models="lock_command_models:Base.metadata")
    assert (checked.exit_code, checked.output) == (0, "the lock order is complete\n")


def test_a_missing_table_fails(project: Path) -> None:
    """A model that was added without its line."""
    (project / "order.txt").write_text("shelf\n")
    checked = run("--check", "order.txt")
    assert checked.exit_code == 1
    assert checked.output.startswith("order.txt: book is missing;")


def test_a_moved_table_fails(project: Path) -> None:
    """Against the deployed file, from another path or from git by stdin."""
    (project / "order.txt").write_text("book\nshelf\n")
    (project / "deployed.txt").write_text("shelf\nbook\n")
    assert run("--check", "order.txt").exit_code == 0
    for checked in (
        run("--check", "order.txt", "--against", "deployed.txt"),
        run("--check", "order.txt", "--against", "-", stdin="shelf\nbook\n"),
    ):
        assert checked.exit_code == 1
        assert "was moved; put it back" in checked.output


@pytest.mark.parametrize("against", ["deployed.txt", "-"])
def test_a_byte_order_mark_is_no_part_of_a_name(project: Path, against: str) -> None:
    """As editors on Windows write it; it stays where it is."""
    text = "\ufeffshelf\nbook\n"
    for name in ("order.txt", "deployed.txt"):
        (project / name).write_text(text, encoding="utf-8")
    checked = run("--check", "order.txt", "--against", against, stdin=text)
    assert (checked.exit_code, checked.output) == (0, "the lock order is complete\n")
    assert run("--write", "order.txt").output == "nothing new\n"
    assert (project / "order.txt").read_text(encoding="utf-8") == text


def test_names_that_look_like_comments(project: Path) -> None:
    """In quotes they can be pinned like any other."""
    names = ["#d", "a #b", 'say "so"', '"said"', " padded ", "c#", "#", "plain"]
    tables = "".join(f"Table({name!r}, metadata, Column('id', Integer))\n" for name in names)
    head = "from sqlalchemy import *\nmetadata = MetaData()\n"
    (project / "lock_command_names.py").write_text(head + tables)
    models = "lock_command_names:metadata"
    assert run("--write", "order.txt", models=models).exit_code == 0
    assert run("--write", "order.txt", models=models).output == "nothing new\n"
    assert run("--check", "order.txt", models=models).exit_code == 0
    lines = (project / "order.txt").read_text().splitlines()
    assert {'"#d"', '"a #b"', '"""said"""', 'say "so"', '" padded "', "c#", "plain"} <= set(lines)
    (project / "order.txt").write_text('"#d"  # why\nplain # "so"\n')
    missing = run("--check", "order.txt", models=models).output
    assert "#d is" not in missing
    assert "plain is" not in missing


@pytest.mark.parametrize(
    ("arguments", "models", "said"),
    [
        (("--check", "none.txt"), "lock_command_models:Base", "locks --write none.txt"),
        (("--write", "order.txt"), "lock_command_models:Nothing", "no attribute 'Nothing'"),
        (("--write", "order.txt"), "lock_command_models", "module:attribute"),
        (("--write", "order.txt"), "lock_command_models:MODELS", "no attribute"),
        (("--write", "order.txt"), "lock_command_models:__name__", "is a str"),
        ((), "lock_command_models:Base", "Give --write FILE"),
        (("--write", "a", "--check", "b"), "lock_command_models:Base", "Give --write FILE"),
    ],
)
def test_what_can_not_run(
    project: Path, arguments: tuple[str, ...], models: str, said: str
) -> None:
    """Exit code 2, and what to do; nothing is written."""
    result = run(*arguments, models=models)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (project / "order.txt").exists()

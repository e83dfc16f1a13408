"""The checks, each in a venv of its own; needs pip and nox only. `nox -l` lists them."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "imports", "unit", "docs"]

PYTHONS = ["3.11", "3.12", "3.13"]
#: The minimum of each line, and the newest of each.
SQLALCHEMY = ["==2.0.56", "==2.1.7", "~=2.0.56", "~=2.1.7"]
#: What must hold with every SQLAlchemy and Python.
CORE = ["tests/unit", "tests/contract", "tests/cancellation"]
BENCH = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "bench")
DEV = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "dev")


def install(session: nox.Session, *extra: str) -> None:
    session.install(".[all]", *DEV, *extra)


def tools(name: str) -> list[str]:
    return [requirement for requirement in DEV if requirement.startswith(name)]


@nox.session
def unit(session: nox.Session) -> None:
    """The fast part, without a server, in under a minute."""
    install(session)
    session.run("pytest", *(session.posargs or ["tests/unit", "tests/docs"]))


@nox.session
def tests(session: nox.Session) -> None:
    """Everything, on an embedded PostgreSQL and SQLite."""
    install(session)
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: format and rules."""
    session.install(*tools("ruff"))
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    install(session)
    session.run("mypy", "--strict")


@nox.session
def imports(session: nox.Session) -> None:
    """The arrows of the architecture, read from the source."""
    session.install(*tools("import-linter"))
    session.run("lint-imports", env={"PYTHONPATH": "src"})


@nox.session
def docs(session: nox.Session) -> None:
    """Links, anchors, code blocks and error codes of the README and docs."""
    install(session)
    session.run("pytest", "tests/docs")


@nox.session
@nox.parametrize("sqlalchemy", SQLALCHEMY)
@nox.parametrize("python", PYTHONS)
def matrix(session: nox.Session, sqlalchemy: str) -> None:
    """The core on each Python that is found, with each SQLAlchemy."""
    install(session, f"sqlalchemy{sqlalchemy}")
    session.run("pytest", *(session.posargs or CORE))


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks: rewrites REPORT.md and plots; `-- --quick` prints a look of two minutes."""
    install(session, *BENCH)
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Mixed load under faults, ten minutes; `-- 3600` for so many seconds."""
    install(session)
    seconds = session.posargs[0] if session.posargs else "600"
    session.run("pytest", "-s", "--timeout=0", "tests/soak", env={"UNITOFWORK_SOAK": seconds})


@nox.session
def proof(session: nox.Session) -> None:
    """The model of the lock protocol, every configuration; needs spin and gcc, some minutes."""
    install(session)
    session.run("pytest", "tests/proof", *session.posargs, env={"UNITOFWORK_LONG": "1"})

"""What environment and command line tell of the fleet."""

from __future__ import annotations

import pytest

from unitofwork import ConfigurationError
from unitofwork.core.validating import checked
from unitofwork.policies.sizing import process_facts
from unitofwork.types import Fleet


@pytest.mark.parametrize(
    ("argv", "environ", "workers"),
    [
        (["uvicorn", "app:app", "--workers", "4"], {}, (4, "uvicorn")),
        (["/venv/bin/uvicorn", "app:app", "--workers=4"], {}, (4, "uvicorn")),
        (["/lib/uvicorn/__main__.py", "app:app", "--workers", "4"], {}, (4, "uvicorn")),
        (["gunicorn", "-w", "4", "app"], {}, (4, "gunicorn")),
        (["gunicorn", "-w4", "app"], {}, (4, "gunicorn")),
        (["gunicorn", "app"], {"GUNICORN_CMD_ARGS": "--workers=3"}, (3, "gunicorn")),
        (["gunicorn", "-w", "4", "app"], {"GUNICORN_CMD_ARGS": "-w 3"}, (4, "gunicorn")),
        (["gunicorn", "app"], {"WEB_CONCURRENCY": "2"}, (2, "WEB_CONCURRENCY")),
        (["gunicorn", "-w", "4"], {"WEB_CONCURRENCY": "2"}, (4, "gunicorn")),
        (["service.py", "--workers", "4"], {}, (None, None)),
        (["uvicorn", "app:app", "--workers"], {}, (None, None)),
        (["uvicorn", "app:app"], {"WEB_CONCURRENCY": "many"}, (None, None)),
        (["uvicorn", "app:app"], {"WEB_CONCURRENCY": "0"}, (None, None)),
        ([], {}, (None, None)),
    ],
)
def test_workers(
    argv: list[str], environ: dict[str, str], workers: tuple[int | None, str | None]
) -> None:
    """The command line of a server that is known, then WEB_CONCURRENCY; else it is unknown."""
    facts = process_facts({}, environ, argv)
    assert (facts.workers, facts.workers_from) == workers


def test_an_argument_wins() -> None:
    """Who says it knows it."""
    environ = {"WEB_CONCURRENCY": "2", "UNITOFWORK_REPLICAS": "9"}
    facts = process_facts({"workers": 8, "replicas": 3}, environ, ["uvicorn", "--workers", "4"])
    assert (facts.workers, facts.replicas) == (8, 3)
    assert (facts.workers_from, facts.replicas_from) == ("argument", "argument")


def test_replicas_come_from_the_environment() -> None:
    """There is no convention for them but ours."""
    facts = process_facts({}, {"UNITOFWORK_REPLICAS": "3"}, [])
    assert (facts.replicas, facts.replicas_from) == (3, "UNITOFWORK_REPLICAS")


def test_threads_and_concurrency() -> None:
    """gunicorn's own threads are those that serve; uvicorn's limit is what runs at once."""
    assert process_facts({}, {}, ["gunicorn", "--threads", "8"], threads=40).threads == 8
    assert process_facts({}, {}, [], threads=40).threads == 40
    assert process_facts({}, {}, ["uvicorn", "--limit-concurrency", "50"]).concurrency == 50
    assert process_facts({"concurrency": 7}, {}, []).concurrency == 7


def test_two_generations_unless_told_otherwise() -> None:
    """A rolling deployment is what there is today."""
    assert process_facts({}, {}, []).generations == 2
    assert process_facts({"generations": 1}, {}, []).generations == 1


@pytest.mark.parametrize(
    "fleet",
    [
        {"workers": 0},
        {"workers": 2.5},
        {"workers": True},
        {"replicas": -1},
        {"throughput": float("nan")},
        {"request_timeout": 0},
        {"idle_limit": "long"},
        {"worker": 4},
    ],
)
def test_what_can_not_be_is_refused(fleet: Fleet) -> None:
    """Before any I/O, with what may be passed."""
    with pytest.raises(ConfigurationError):
        checked(fleet)


@pytest.mark.parametrize("fleet", [{"workers": 1}, {"throughput": 5}, {"replicas": None}, {}])
def test_what_can_be_is_taken(fleet: Fleet) -> None:
    """None means: not known."""
    assert checked(fleet) is fleet

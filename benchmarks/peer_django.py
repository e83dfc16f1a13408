"""The benchmark's tables as Django's, and its `atomic()`; needs `django`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.db import connections, transaction
from sqlalchemy import make_url

from unitofwork.testing.postgres import EmbeddedPostgres

from .model import next_id
from .works import READ, TEN, WRITE, Works


def _models(server: EmbeddedPostgres) -> tuple[Any, Any]:
    # Django takes its settings once for a process, and its models only after them.
    if not settings.configured:
        url = make_url(server.url(None))
        address = {"HOST": url.host, "PORT": url.port, "USER": url.username, "NAME": url.database}
        database = {
            "ENGINE": "django.db.backends.postgresql",
            **address,
            "PASSWORD": url.password or "",
            "CONN_MAX_AGE": None,
        }
        settings.configure(DATABASES={"default": database})
        django.setup()
    from django.db import models

    class DAccount(models.Model):
        balance = models.IntegerField()
        owner = models.TextField()

        class Meta:
            app_label, db_table, managed = "bench", "bench_account", False

    class DEntry(models.Model):
        account_id = models.IntegerField()
        amount = models.IntegerField()

        class Meta:
            app_label, db_table, managed = "bench", "bench_entry", False

    return DAccount, DEntry


@contextmanager
def works_of_django(server: EmbeddedPostgres) -> Generator[Works]:
    """`atomic()`; the thread keeps its connection (CONN_MAX_AGE)."""
    account_class, entry_class = _models(server)

    def read() -> None:
        with transaction.atomic():
            account_class.objects.get(id=next_id())

    def write() -> None:
        with transaction.atomic():
            account = account_class.objects.get(id=next_id())
            account.balance += 1
            account.save(update_fields=["balance"])

    def ten() -> None:
        with transaction.atomic():
            entries = [entry_class(account_id=next_id(), amount=1) for _ in range(10)]
            entry_class.objects.bulk_create(entries)

    try:
        yield {READ: read, WRITE: write, TEN: ten}
    finally:
        connections.close_all()

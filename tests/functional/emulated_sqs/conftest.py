"""Clients of the embedded SQS, and of moto's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import moto.sqs.models
import pytest
from moto import mock_aws
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sqs.models import sqs_backends
from parcelq_emulator.application import listen
from parcelq_emulator.sqs import SqsFrontend
from parcelq_emulator.sqs_backend import StandardQueueBackend
from sqs_topic import CONFIG, SESSION, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Any]:
    """A client of our SQS, through HTTP."""
    sqs_backends.clear()
    monkeypatch.setattr(sqs_backends, "backend", partial(StandardQueueBackend, clock=clock))
    server = listen(SqsFrontend(DomainDispatcherApplication(create_backend_app)), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    client = SESSION.client("sqs", endpoint_url=f"http://{server.host}:{server.port}", config=CONFIG)
    yield client
    client.close()
    server.shutdown()
    server.server_close()
    sqs_backends.clear()


@pytest.fixture(params=["moto", "ours"])
def sqs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Any]:
    """A client of moto's SQS, and one of ours."""
    if request.param == "ours":
        yield request.getfixturevalue("ours")
        return
    monkeypatch.setattr(moto.sqs.models, "unix_time", clock)
    monkeypatch.setattr(moto.sqs.models, "unix_time_millis", lambda: clock() * 1000)
    with mock_aws():
        yield SESSION.client("sqs", config=CONFIG)

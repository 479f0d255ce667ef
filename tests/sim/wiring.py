"""Puts the models in the place of Kafka, PostgreSQL and time for the processor's own code, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from services.processor import consumer, rebuild, worker


class Notes:
    """A logger whose lines become part of the history."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def __getattr__(self, level: str) -> Callable[..., None]:
        """Return the method of a level."""

        def write(event: str, **facts: object) -> None:
            self._note(f"{event} " + " ".join(f"{name}={value}" for name, value in facts.items()))

        return write


@contextmanager
def wired(
    make_consumer: Callable[[dict[str, Any]], Any], make_session: Callable[[], Any], monotonic: Callable[[], float],
    note: Callable[[str], None],
) -> Iterator[None]:  # fmt: skip
    """Hand these to every loop that is made inside."""
    with ExitStack() as stack:
        for module, name, stand_in in (
            (consumer, "AIOKafkaConsumer", lambda **options: make_consumer(options)),
            (consumer, "Session", lambda conninfo: make_session()),
            (consumer, "time", SimpleNamespace(monotonic=monotonic)),
            (rebuild, "log", Notes(note)),
            (rebuild, "log", Notes(note)),
            (consumer, "log", Notes(note)),
            (worker, "log", Notes(note)),
            (rebuild, "log", Notes(note)),
        ):
            stack.enter_context(patch.object(module, name, stand_in))
        yield

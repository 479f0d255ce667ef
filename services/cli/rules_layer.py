"""What the ``keepwell rules`` commands that need the database share: one layer, and the patients it concerns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.cli.patient_find import found
from services.cli.patient_write import now
from services.cli.say import connected, refuse
from services.settings import Settings, load

if TYPE_CHECKING:
    import psycopg

    from services.processor.change import PatientChange
    from services.rules.form import Aim
    from services.rules.layers import Layer


@dataclass(slots=True)
class Desk:
    """One transaction as the admin role, about one layer; ``patients``: whom it concerns, id → key."""

    settings: Settings
    connection: psycopg.Connection[Any]
    organisation_id: int
    aim: Aim
    patients: dict[int, str]

    def layer(self) -> Layer:
        """Return the layer as it stands; end with one plain sentence where there is no such programme."""
        from ingest.clock import to_ms
        from services.rules.layers import standing
        from services.store.programmes import UnknownProgrammeError
        from services.store.steps import run

        try:
            steps = standing(self.organisation_id, self.aim, list(self.patients), to_ms(now()))
            return run(self.connection, steps)
        except UnknownProgrammeError as error:
            refuse(str(error))

    def changes(self, patients: Sequence[int]) -> dict[int, list[PatientChange]]:
        """Return patient → what people said of it."""
        from services.rules.layers import changes_of
        from services.store.steps import run

        return run(self.connection, changes_of(patients))


@contextmanager
def desk(organisation: str, aim: Aim) -> Iterator[Desk]:
    """Open one; an organisation, programme or patient nobody knows ends with one plain sentence."""
    from services.rules.layers import concerned
    from services.store.steps import run

    settings = load().settings
    with connected(settings) as connection:
        row = connection.execute("SELECT id FROM organisation WHERE key = %s", [organisation]).fetchone()
        if row is None:
            refuse(f"there is no organisation {organisation!r}")
        if aim.layer == "patient":
            found(connection, organisation, aim.key)
        yield Desk(settings, connection, row[0], aim, run(connection, concerned(row[0], aim)))

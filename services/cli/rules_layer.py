"""What the ``keepwell rules`` commands that need the database share: one layer, and the patients it concerns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from services.cli.audited import noted, noted_of
from services.cli.patient_find import found
from services.cli.patient_write import now
from services.cli.say import connected, refuse
from services.settings import Settings, load

if TYPE_CHECKING:
    import psycopg

    from services.processor.change import PatientChange
    from services.rules.form import Aim
    from services.rules.layers import Standing


READ: Final[Mapping[str, str]] = {
    "organisation": "limits.read",
    "programme": "programme.read",
    "patient": "profile.read",
}
WRITE: Final[Mapping[str, str]] = {
    "organisation": "limits.write", "programme": "programme.write", "patient": "patient.limits",
}  # fmt: skip


@dataclass(slots=True)
class Desk:
    """One transaction as the admin role, about one layer; ``patients``: whom it concerns, id → key."""

    settings: Settings
    connection: psycopg.Connection[Any]
    organisation_id: int
    aim: Aim
    patients: dict[int, str]

    def layer(self) -> Standing:
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

    def noted(self, actions: Mapping[str, str], **detail: Any) -> None:
        """Leave in the audit what was done with the layer, named as the API names it.

        The reason of a change is not in it: it stays with the change, which an erasure deletes.
        """
        action, detail = actions[self.aim.layer], {"layer": self.aim.subject, **detail}
        if self.aim.layer == "patient":
            noted_of(self.connection, action, list(self.patients), **detail)
        else:
            noted(self.connection, action, organisation_id=self.organisation_id, **detail)

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

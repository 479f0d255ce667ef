"""``keepwell consent``: what patients are asked, what they decided, and on which ground the organisation relies."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import typer

from services.cli import say
from services.cli.admin_desk import Desk, a_patient, desk
from services.cli.audited import noted_of
from services.cli.say import JSON, ORGANISATION, moment, refuse
from services.settings import load

HELP: Final = """Write down what patients agree to, purpose by purpose and class of data by class.

    keepwell consent publish monitoring care.txt --purpose care --title "Your data at home" --language en
    keepwell consent publish monitoring pflege.txt --purpose care --title "Ihre Daten" --language de --version 1
    keepwell consent give p20 care --document monitoring --form "signed on paper, file 12"
    keepwell consent give p20 research --document study --class vitals --until 2028-01-01T00:00Z --form "signed"
    keepwell consent withdraw p20 care --form "said on the telephone"     holds at once
    keepwell consent refuse p21 family --form "said at enrolment"
    keepwell consent show p20                       how it stands, purpose by purpose and class by class
    keepwell consent basis                          what rests on consent here, and what on something else
    keepwell consent basis --set care=consent --reason "decided by the ethics board on 3 Nov"

Purposes: care, programme, research, genomics, family. Classes: activity, sleep, vitals, waveforms; without --class all.
A guardian decides for who is too young (`--by guardian --name "Grete Muster"`), a representative for who can't.
"""
PATIENT = typer.Argument(..., help="key of the patient, e.g. p20")
PURPOSE = typer.Argument(..., help="care, programme, research, genomics or family")
CLASS = typer.Option(None, "--class", help="a class of data it is about; several times for several; all where left out")
FORM = typer.Option(..., "--form", help="how it was said, and where that is kept")
BY = typer.Option("self", "--by", help="who decided: self, guardian or representative")
NAME = typer.Option("", "--name", help="the name of the guardian or representative")
WHY = typer.Option("", "--reason", help="why, in words")
SINCE = typer.Option(None, "--from", help="when it takes effect, RFC 3339 with an offset; now where left out")


def register(app: typer.Typer) -> None:
    """Add the ``consent`` commands."""
    group = typer.Typer(help=HELP, no_args_is_help=True)
    app.add_typer(group, name="consent")
    for command in (documents, publish, give, refused, withdraw, show, basis):
        group.command("refuse" if command is refused else command.__name__)(command)


def documents(organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """List what patients are asked, each version in each language (at most 200)."""
    with desk(organisation) as at:
        rows = at.connection.execute(
            """SELECT key, version, language, purpose, title, requires_renewal, published_at, digest
               FROM consent_document WHERE organisation_id = %s ORDER BY key, version DESC, language LIMIT 200""",
            [at.organisation_id],
        ).fetchall()
        at.note("consent.documents")
    names = ("document", "version", "language", "purpose", "title", "asks_anew", "published_at", "digest")
    nothing = f"{organisation} has published no document; `keepwell consent publish` does"
    say.rows([dict(zip(names, row, strict=True)) for row in rows], as_json, nothing)


def publish(
    key: str = typer.Argument(..., help="key of the document, e.g. monitoring"),
    file: Path = typer.Argument(..., help="file with its text, UTF-8", exists=True, dir_okay=False),
    purpose: str = typer.Option(..., help="care, programme, research, genomics or family"),
    title: str = typer.Option(..., help="its title"),
    language: str = typer.Option(..., help="its language, e.g. en or de-AT"),
    version: int = typer.Option(None, min=1, help="the newest one to add a language to it; the next where left out"),
    asks_anew: bool = typer.Option(False, "--asks-anew", help="what was given to earlier versions ends with this one"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Publish a document's next version; it is never changed afterwards."""
    from services.store import consents

    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{file} can't be read as UTF-8 text: {error}")
    words = consents.Words(key, purpose, language, title, text, version, asks_anew)
    with desk(organisation) as at:
        number = _done(at, lambda clerk: consents.publish(clerk, words))
        at.note("consent.publish", document=key, version=number, requires_renewal=asks_anew)
    say.told({"document": key, "version": number, "language": language, "purpose": purpose}, as_json)


def give(
    patient: str = PATIENT, purpose: str = PURPOSE,
    document: str = typer.Option(..., help="key of the published document they agreed to"),
    version: int = typer.Option(None, min=1, help="its version; the newest where left out"),
    language: str = typer.Option("", help="the language they read it in, where it was published in several"),
    only: list[str] = CLASS, form: str = FORM, by: str = BY, name: str = NAME, reason: str = WHY, since: str = SINCE,
    until: str = typer.Option(None, help="when it ends by itself, RFC 3339 with an offset"),
    organisation: str = ORGANISATION, as_json: bool = JSON,
) -> None:  # fmt: skip
    """Write down that a patient agrees."""
    values = {
        "document": document,
        "document_version": version,
        "language": language,
        "expires_at": moment("--until", until),
    }
    _record(patient, purpose, "given", only, form, by, name, reason, since, organisation, as_json, **values)


def withdraw(
    patient: str = PATIENT, purpose: str = PURPOSE, only: list[str] = CLASS, form: str = FORM, by: str = BY,
    name: str = NAME, reason: str = WHY, since: str = SINCE, organisation: str = ORGANISATION, as_json: bool = JSON,
) -> None:  # fmt: skip
    """Write down that a patient agrees no more; it holds at once."""
    _record(patient, purpose, "withdrawn", only, form, by, name, reason, since, organisation, as_json)


def refused(
    patient: str = PATIENT, purpose: str = PURPOSE, only: list[str] = CLASS, form: str = FORM, by: str = BY,
    name: str = NAME, reason: str = WHY, since: str = SINCE, organisation: str = ORGANISATION, as_json: bool = JSON,
) -> None:  # fmt: skip
    """Write down that a patient was asked and does not agree."""
    _record(patient, purpose, "refused", only, form, by, name, reason, since, organisation, as_json)


def show(patient: str = PATIENT, organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """Show how a patient's consent stands: purpose by purpose, and class by class where they differ."""
    with desk(organisation) as at:
        number = a_patient(at, patient)
        noted_of(at.connection, "consent.read", [number])
        found = at.connection.execute(
            """SELECT s.purpose, s.basis, string_agg(s.data_class, ', ' ORDER BY s.data_class),
                      CASE WHEN s.decision = 'given' AND NOT s.holds THEN 'ended'
                           ELSE coalesce(s.decision, 'none') END AS state,
                      s.withheld, s.since, s.ends_at, c.relation, c.decided_by, c.form
               FROM consent_state(%s) s LEFT JOIN consent c ON c.id = s.decision_id
               GROUP BY 1, 2, 4, 5, 6, 7, 8, 9, 10 ORDER BY 1, 3""",
            [number],
        ).fetchall()
    names = ("purpose", "basis", "classes", "state", "withheld", "since", "ends_at", "by", "name", "form")
    say.rows([dict(zip(names, row, strict=True)) for row in found], as_json, "")


def basis(
    wanted: list[str] = typer.Option(None, "--set", help="PURPOSE=consent or PURPOSE=other; several times for several"),
    age: int | None = typer.Option(None, help="from which age people decide for themselves, 13 to 21"),
    reason: str = WHY,
    version: int = typer.Option(None, min=0, help="refuse unless this is the version now"),
    organisation: str = ORGANISATION,
    as_json: bool = JSON,
) -> None:
    """Show or change on which ground each purpose rests. `consent`: nothing without it; `other`: a law, a contract."""
    from services.consent import DEFAULT_AGE, check_rules
    from services.store.consents import set_rules

    pairs = dict(one.partition("=")[::2] for one in wanted or [])
    with desk(organisation) as at:
        if pairs or age is not None:
            _done(at, lambda clerk: set_rules(clerk, pairs, age, reason, version))
            at.note("consent.rules", basis=pairs, consent_age=age)
        else:
            at.note("consent.basis")
        row = at.connection.execute(
            """SELECT version, basis, consent_age FROM consent_rules WHERE organisation_id = %s
               ORDER BY version DESC LIMIT 1""",
            [at.organisation_id],
        ).fetchone()
    number, grounds, years = row or (0, check_rules({}, DEFAULT_AGE), DEFAULT_AGE)
    say.told({"organisation": organisation, "version": number, **grounds, "consent_age": years}, as_json)


def _record(
    patient: str, purpose: str, said: str, only: list[str] | None, form: str, by: str, name: str, reason: str,
    since: str | None, organisation: str, as_json: bool, **values: Any,
) -> None:  # fmt: skip
    from services.consent import Wanted
    from services.store.consents import record

    wanted = Wanted(
        purpose, said, by, name, form, only or None, effective_at=moment("--from", since), reason=reason, **values
    )
    with desk(organisation) as at:
        patient_id = a_patient(at, patient)
        number = _done(at, lambda clerk: record(clerk, patient_id, wanted))
        noted_of(at.connection, "consent.record", [patient_id], consent=number, purpose=purpose, decision=said)
    say.told({"patient": patient, "purpose": purpose, "decision": said, "consent": number}, as_json)


def _done(at: Desk, make: Any) -> Any:
    """Run steps in the desk's transaction; what stands in their way ends with one plain sentence."""
    from services.impossible import ImpossibleError
    from services.store.consents import Clerk
    from services.store.programmes import StaleError
    from services.store.steps import run

    clerk = Clerk(at.organisation_id, None, at.now, at.now, load().settings.kafka.partitions)
    try:
        return run(at.connection, make(clerk))
    except (ImpossibleError, StaleError) as error:
        at.connection.rollback()
        refuse(str(error))

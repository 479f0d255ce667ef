"""Documents, decisions and rules of consent, written with what follows at once. Steps; two drivers run them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from ingest.clock import to_ms
from services import consent
from services.consent import CLASSES, Wanted
from services.impossible import impossible
from services.monitoring import MAX_AWAY_MS
from services.store import changes
from services.store.programmes import KEY_SHAPE, StaleError
from services.store.steps import Steps

CHANNEL: Final = "keepwell_alert"  # whoever reads a stream is judged anew at once
BY_CONSENT: Final = "consent"  # in the payload of a pause that a consent made, and may lift
RULES: Final = "the rules of consent"
MAX_TITLE: Final = 200
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
CARE: Final = "care"
_ALL: Final = frozenset(CLASSES)


class Clerk(NamedTuple):
    """Who writes, when by the host's clock, and which instant it is for patients (in a time-lapse another one)."""

    organisation_id: int
    person_id: int | None  # None: at the command line
    at: datetime
    present: datetime
    partitions: int


class Words(NamedTuple):
    """A document as it is to be published; ``version`` None: the next one."""

    key: str
    purpose: str
    language: str
    title: str
    text: str
    version: int | None = None
    requires_renewal: bool = False


def publish(clerk: Clerk, words: Words) -> Steps[int]:
    """Publish a document, or a translation of its newest version, and return the version.

    Raises:
        ImpossibleError: a value that is not allowed, or a version that can't be changed any more.
    """
    _check_words(words)
    yield "SELECT pg_advisory_xact_lock(hashtext('keepwell.consent_document'), %s)", [clerk.organisation_id]
    known = yield (
        """SELECT version, language, purpose, requires_renewal FROM consent_document
           WHERE organisation_id = %s AND key = %s ORDER BY version DESC, language""",
        [clerk.organisation_id, words.key],
    )
    newest = known[0][0] if known else 0
    version = words.version or newest + 1
    if version not in (newest, newest + 1) or version == 0:
        allowed = f"{newest + 1}, or a translation of {newest}" if newest else "1"
        raise impossible(version, "version", allowed)
    if known and known[0][2] != words.purpose:
        raise impossible(words.purpose, "purpose", f"{known[0][2]}, as before: another purpose is another document")
    same = [row for row in known if row[0] == version]
    if any(row[1] == words.language for row in same):
        raise impossible(version, "version", f"{newest + 1}: what is published is never changed")
    if same and same[0][3] != words.requires_renewal:
        raise impossible(words.requires_renewal, "requires_renewal", f"{same[0][3]}, as the other languages say")
    yield (
        """INSERT INTO consent_document (organisation_id, key, version, language, purpose, title, text, digest,
                                         requires_renewal, published_at, published_by)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        [
            clerk.organisation_id, words.key, version, words.language, words.purpose, words.title, words.text,
            consent.digest(words.title, words.text), words.requires_renewal, clerk.at, clerk.person_id,
        ],
    )  # fmt: skip
    yield "SELECT pg_notify(%s, '')", [CHANNEL]
    return int(version)


def set_rules(clerk: Clerk, basis: Mapping[str, str], age: int | None, reason: str, expected: int | None) -> Steps[int]:
    """Say on which basis each purpose rests and from which age people decide; return the version. The rest stays.

    Raises:
        ImpossibleError: a value that is not allowed.
        StaleError: somebody else changed it since.
    """
    if not reason.strip():
        raise impossible(reason, "reason", "a reason in words: on which ground the organisation relies")
    yield "SELECT pg_advisory_xact_lock(hashtext('keepwell.consent_rules'), %s)", [clerk.organisation_id]
    known = yield (
        """SELECT version, basis, consent_age FROM consent_rules WHERE organisation_id = %s
           ORDER BY version DESC LIMIT 1""",
        [clerk.organisation_id],
    )
    version, before, years = known[0] if known else (0, dict(consent.DEFAULT_BASIS), consent.DEFAULT_AGE)
    if expected is not None and expected != version:
        raise StaleError(RULES, expected, version)
    whole = consent.check_rules({**before, **basis}, years if age is None else age)
    yield (
        """INSERT INTO consent_rules (organisation_id, version, basis, consent_age, reason, person_id, recorded_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        [
            clerk.organisation_id, version + 1, Jsonb(whole), years if age is None else age, reason.strip(),
            clerk.person_id, clerk.at,
        ],
    )  # fmt: skip
    yield "SELECT pg_notify(%s, '')", [CHANNEL]
    return int(version) + 1


def record(clerk: Clerk, patient_id: int, wanted: Wanted) -> Steps[int]:
    """Write a decision down and return its number. Where care rests on it, monitoring is paused with the last class
    that is taken away, and goes on with the first that is given again, in the same transaction.

    Raises:
        ImpossibleError: a value that is not allowed, or somebody who may not decide this.
    """
    yield "SELECT pg_advisory_xact_lock(hashtext('keepwell.consent'), %s)", [patient_id]
    rows = yield (
        "SELECT consent_age_of(%s), consent_age_facts(%s)",
        [clerk.organisation_id, patient_id],
    )
    age, facts = rows[0]
    consent.check(wanted, clerk.at, facts or {}, age)
    document = yield from _document(clerk, wanted)
    ended, had_ended, effective = yield from _care(clerk, patient_id, wanted)
    if ended and not had_ended:
        yield from _pause(clerk, patient_id, wanted, effective)  # while the patient is still there for who writes it
    rows = yield (
        """INSERT INTO consent (organisation_id, patient_id, purpose, data_classes, decision, document_id, effective_at,
                                expires_at, relation, decided_by, form, reason, recorded_by, recorded_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id""",
        [
            clerk.organisation_id, patient_id, wanted.purpose,
            None if wanted.classes is None else sorted(set(wanted.classes)), wanted.said, document,
            wanted.effective_at or clerk.at, wanted.expires_at, wanted.relation, wanted.decided_by.strip(),
            wanted.form.strip(), wanted.reason.strip(), clerk.person_id, clerk.at,
        ],
    )  # fmt: skip
    if wanted.said == "given" and wanted.purpose == "care" and not ended:
        yield from _lift(clerk, patient_id, effective)
    yield "SELECT pg_notify(%s, '')", [CHANNEL]
    return int(rows[0][0])


def _document(clerk: Clerk, wanted: Wanted) -> Steps[int | None]:
    """Return the id of the document a decision names."""
    if not wanted.document:
        return None
    rows = yield (
        """SELECT id, version, purpose, requires_renewal, language FROM consent_document
           WHERE organisation_id = %s AND key = %s ORDER BY version DESC, language""",
        [clerk.organisation_id, wanted.document],
    )
    if not rows:
        raise impossible(wanted.document, "document", "the key of a published document (`keepwell consent documents`)")
    wants = wanted.document_version or rows[0][1]
    found = [row for row in rows if row[1] == wants]
    if not found:
        raise impossible(wants, "document_version", f"1 to {rows[0][1]}")
    renewed = max((row[1] for row in rows if row[3]), default=0)
    if wanted.said == "given" and wants < renewed:
        raise impossible(wants, "document_version", f"{renewed} or newer: it asks everybody anew")
    if found[0][2] != wanted.purpose:
        raise impossible(wanted.document, "document", f"one about {wanted.purpose}; this one is about {found[0][2]}")
    read = [row for row in found if wanted.language in ("", row[4])]
    if len(read) != 1:
        raise impossible(
            wanted.language, "language", f"that of the words that were read: {', '.join(row[4] for row in found)}"
        )
    return int(read[0][0])


def _care(clerk: Clerk, patient_id: int, wanted: Wanted) -> Steps[tuple[bool, bool, datetime]]:
    """Return whether care has ended once this was said, whether it had before, and from when on for the patient."""
    begins = wanted.effective_at or clerk.at
    effective = clerk.present + max(begins - clerk.at, timedelta(0))
    if wanted.purpose != "care":
        return False, False, effective
    rows = yield (
        "SELECT data_class, withheld FROM consent_state(%s, 'care') WHERE basis = 'consent'",
        [patient_id],
    )
    if not rows:
        return False, False, effective
    before = frozenset(name for name, gone in rows if gone)
    had_ended = before == _ALL
    if had_ended and wanted.said == "given" and begins > clerk.at:
        allowed = "now: while nothing of the patient may be used, what is given again takes effect at once"
        raise impossible(begins.isoformat(), "effective_at", allowed)
    return consent.after(before, wanted.classes, wanted.said) == _ALL, had_ended, effective


def _at_hand(patient_id: int) -> Steps[None]:
    """Refuse who can't see the monitoring that is to end or begin with the decision."""
    rows = yield "SELECT EXISTS (SELECT FROM patient WHERE id = %s)", [patient_id]
    if not rows[0][0]:
        allowed = (
            "one that a clinician, a nurse or the patient writes down: of this patient too much is withheld from you"
        )
        raise impossible(CARE, "purpose", allowed)


def _pause(clerk: Clerk, patient_id: int, wanted: Wanted, effective: datetime) -> Steps[None]:
    """Pause the monitoring, unless somebody set a state without an end in which silence is not told anyway."""
    yield from _at_hand(patient_id)
    rows = yield (
        """SELECT payload FROM patient_change WHERE patient_id = %s AND kind = 'monitoring' AND effective_at <= %s
           ORDER BY effective_at DESC, id DESC LIMIT 1""",
        [patient_id, effective],
    )
    state = rows[0][0] if rows else {"state": "active"}
    if state["state"] != "active" and state.get("until_ms") is None:
        return
    payload: dict[str, Any] = {"state": "paused", "until_ms": to_ms(effective) + MAX_AWAY_MS, BY_CONSENT: True}
    yield from _monitoring(clerk, patient_id, payload, f"the consent to care was {wanted.said}", effective)


def _lift(clerk: Clerk, patient_id: int, effective: datetime) -> Steps[None]:
    """Let the monitoring go on where a consent had paused it."""
    yield from _at_hand(patient_id)
    rows = yield (
        """SELECT payload, effective_at FROM patient_change WHERE patient_id = %s AND kind = 'monitoring'
           ORDER BY version DESC LIMIT 1""",
        [patient_id],
    )
    if rows and rows[0][0].get(BY_CONSENT):
        begins = max(effective, rows[0][1])
        yield from _monitoring(clerk, patient_id, {"state": "active"}, "the consent to care is given again", begins)


def _monitoring(
    clerk: Clerk, patient_id: int, payload: dict[str, Any], reason: str, effective: datetime
) -> Steps[None]:
    change = changes.Wanted(patient_id, "monitoring", "", effective, payload, reason, clerk.person_id, clerk.present)
    yield from changes.steps(change, clerk.partitions)


def _check_words(words: Words) -> None:
    if not (1 <= len(words.key) <= 64 and words.key.replace("-", "").replace("_", "").isalnum()):
        raise impossible(words.key[:20], "key", KEY_SHAPE)
    if words.purpose not in consent.PURPOSES:
        raise impossible(words.purpose, "purpose", ", ".join(consent.PURPOSES))
    if not _LANGUAGE.fullmatch(words.language) or len(words.language) > 35:
        raise impossible(words.language[:20], "language", "a language tag (BCP 47), e.g. de or en-GB")
    if not 1 <= len(words.title.strip()) <= MAX_TITLE:
        raise impossible(words.title[:20], "title", f"1 to {MAX_TITLE} characters")
    if not 1 <= len(words.text.strip()) <= consent.MAX_TEXT:
        raise impossible(words.text[:20], "text", f"1 to {consent.MAX_TEXT} characters")

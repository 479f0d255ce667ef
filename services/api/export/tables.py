"""A patient's data as files anybody can open: CSV in a ZIP, with a page that explains every column."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Any, Final, NamedTuple

from ingest.catalogue import by_id
from services.api import audit_words
from services.api.export.source import Block, Source, Wave
from services.api.export.text import QUALITIES, at, locals_, number, numbers, words
from services.api.query import Row
from services.api.times import zone

Cells = Sequence[object]


class File(NamedTuple):
    """One table: its columns with what each means, and how its rows are made of what the source gives."""

    name: str
    about: str
    columns: dict[str, str]
    batches: Callable[[Source], AsyncIterator[list[Any]]]
    rows: Callable[[list[Any], tzinfo], Iterable[Cells]]


async def archive(source: Source) -> AsyncGenerator[bytes, None]:
    """Return a ZIP with every file, in pieces as the rows are read; nothing is held but a few hundred rows.

    Raises:
        psycopg.Error: the database was lost, or it took too long.
    """
    where, made = zone(source.patient.time_zone), _Made()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as zipped:  # type: ignore[call-overload]
        for name, text in (("README.txt", readme(source)), ("profile.json", _json(await source.profile()))):
            zipped.writestr(_entry(name, source, where), text)
        for file in FILES:
            with zipped.open(_entry(file.name, source, where), "w", force_zip64=True) as member:
                member.write(_lines([list(file.columns)]))
                async for batch in file.batches(source):
                    member.write(await asyncio.to_thread(_lines, file.rows(batch, where)))
                    yield made.taken()
    yield made.taken()


class _Made:
    """What was written of the ZIP and not sent yet; it can't be gone back in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        """Return what is ready, and forget it."""
        ready, self._parts = b"".join(self._parts), []
        return ready


def _entry(name: str, source: Source, where: tzinfo) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name, source.now.astimezone(where).timetuple()[:6])
    made.compress_type = zipfile.ZIP_DEFLATED
    made.external_attr = 0o600 << 16
    return made


def _lines(rows: Iterable[Cells]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _readings(blocks: list[Block], where: tzinfo) -> Iterable[Cells]:
    for block in blocks:
        key, unit, device = block.metric.key, block.metric.unit, words(block.device)
        when, value = locals_(block.t_ms, where), numbers(block.value)
        for instant, text, quality in zip(when, value, block.quality.tolist(), strict=True):
            yield key, instant, text, unit, QUALITIES.get(quality, str(quality)), device


def _waves(waves: list[Wave], where: tzinfo) -> Iterable[Cells]:
    for wave in waves:
        yield (
            wave.metric.key, at(wave.t0, where), wave.step_us, number(wave.scale), number(wave.offset),
            wave.metric.unit, words(wave.device), " ".join(map(str, wave.samples)),
        )  # fmt: skip


def _days(rows: list[Row], _where: tzinfo) -> Iterable[Cells]:
    for row in rows:
        metric = by_id()[row["metric_id"]]
        yield (
            metric.key, row["day"].isoformat(), row["context"], number(row["value"]), metric.unit, row["minutes"],
            number(row["center"]), number(row["spread"]), row["days"],
        )  # fmt: skip


def _alerts(rows: list[Row], where: tzinfo) -> Iterable[Cells]:
    for row in rows:
        ended, seen = row["resolved_at"], row["acknowledged_at"]
        yield (
            at(row["started_at"], where), at(ended, where) if ended else "", row["state"], row["priority"],
            row["kind"], "yes" if row["late"] else "no", words(row["sentence"]), at(seen, where) if seen else "",
        )  # fmt: skip


def _consents(rows: list[Row], where: tzinfo) -> Iterable[Cells]:
    for row in rows:
        until, document = row["expires_at"], row["document"]
        yield (
            at(row["recorded_at"], where), row["purpose"], " ".join(row["data_classes"] or ["all"]), row["decision"],
            at(row["effective_at"], where), at(until, where) if until else "",
            words(f"{document} version {row['document_version']}" if document else ""), row["relation"],
            words(row["decided_by"]), words(row["form"]),
        )  # fmt: skip


def _accesses(rows: list[Row], where: tzinfo) -> Iterable[Cells]:
    for row in rows:
        yield (
            row["day"].isoformat(), at(row["first_at"], where), at(row["last_at"], where),
            words(audit_words.who(row)), row["action"], row["purpose"], row["outcome"], row["times"],
            words(audit_words.sentence(row)),
        )  # fmt: skip


def _set_aside(rows: list[Row], where: tzinfo) -> Iterable[Cells]:
    for row in rows:
        metric = by_id()[row["metric_id"]]
        yield (
            metric.key, at(row["t"], where), number(row["value"]), metric.unit, words(row["device"]), words(row["why"])
        )  # fmt: skip


_METRIC: Final = {"metric": "what was measured"}
_INSTANT: Final = "when, in your local time with its offset from UTC (RFC 3339)"
# The order of the files in the ZIP. A further table is a further entry.
FILES: Final = (
    File(
        "readings.csv", "every value your devices sent that is stored as a reading",
        _METRIC | {
            "instant": _INSTANT, "value": "the value, exactly as stored", "unit": "its unit, in UCUM",
            "quality": f"what the device or we said of it: {', '.join(QUALITIES.values())}",
            "device": "which device measured it",
        },
        Source.readings, _readings,
    ),
    File(
        "waveforms.csv", "stretches of curves such as an ECG, a row each",
        _METRIC | {
            "instant": f"of the first sample: {_INSTANT}", "step_us": "microseconds from one sample to the next",
            "scale": "a sample times this …", "offset": "… plus this is the value", "unit": "its unit, in UCUM",
            "device": "which device measured it", "samples": "the samples, with spaces between",
        },
        Source.waves, _waves,
    ),
    File(
        "daily.csv", "one value a day or night, and what was usual for you then",
        _METRIC | {
            "day": "your local day; a night counts to the day it ends on", "context": "asleep, rest, active or any",
            "value": "the day's value", "unit": "its unit, in UCUM", "minutes": "minutes measured",
            "usual": "what was usual for you", "usual_spread": "how far your days usually differ from it",
            "days": "how many days the usual value was learned from",
        },
        Source.days, _days,
    ),
    File(
        "alerts.csv", "what Keepwell noticed, in the words meant for you",
        {
            "began": _INSTANT, "ended": "when it was over; empty: not over, or taken back",
            "state": "active, resolved, or withdrawn (taken back)", "priority": "high, medium or low",
            "kind": "clinical (about you) or technical (about a device)",
            "late": "yes: found in data that came late", "what": "what was noticed: unusual for you, not a diagnosis",
            "seen_by_care_team": "when somebody of your care team acknowledged it",
        },
        Source.alerts, _alerts,
    ),
    File(
        "consents.csv", "what you agreed to or not, each decision in the order it was said",
        {
            "said": f"when it was written down, {_INSTANT}", "purpose": "what the data is used for",
            "data": "which kinds of data, or all", "decision": "given, refused or withdrawn",
            "begins": "since when it holds", "ends": "when it ends by itself; empty: never",
            "document": "the words that were agreed to", "relation": "self, guardian or representative",
            "decided_by": "the name of who decided", "form": "how it was said, and where that is kept",
        },
        Source.consents, _consents,
    ),
    File(
        "accesses.csv", "who used your data, a row a day, person and kind of use",
        {
            "day": "your local day", "first": f"the first time, {_INSTANT}", "last": "the last time",
            "who": "a person with their role then, the operators, or the service itself",
            "action": "the kind of use, as a code", "purpose": "what for, as a code",
            "outcome": "allowed, refused or failed", "times": "how often on that day",
            "what": "all of it as a sentence",
        },
        Source.accesses, _accesses,
    ),
    File(
        "set_aside.csv", "values that came in but are no readings",
        _METRIC | {
            "instant": _INSTANT, "value": "the value", "unit": "its unit, in UCUM", "device": "which device sent it",
            "why": "why it is not used",
        },
        Source.set_aside, _set_aside,
    ),
)  # fmt: skip


def readme(source: Source) -> str:
    """Return the page that explains the files, in plain words."""
    where = source.patient.time_zone
    lines = [
        f"Your data from Keepwell: {source.patient.name} ({source.patient.key})",
        f"Made {at(source.now, zone(where))}. Times are in the time zone {where}.",
        "",
        "This is a copy of what is stored about you. It is no diagnosis. Values can be wrong: devices make mistakes.",
        "Keep it safe: whoever has this file can read it. The tables are CSV files (UTF-8) for any spreadsheet.",
        "A text that begins with = + - or @ has a ' put before it, so that no spreadsheet takes it for a formula.",
    ]
    for what in sorted({"readings", "alerts"} - source.opened):
        lines += ["", f"The {what} are not in here: whoever made this copy may not see them."]
    if source.withheld:
        lines += [
            "",
            f"Left out, because consent does not let whoever made this copy see it: {', '.join(source.withheld)}.",
        ]
    lines += ["", "profile.json: who you are, your devices, and what is known of you that changes the rules"]
    for file in FILES:
        lines += ["", f"{file.name}: {file.about}", *(f"  {name}: {what}" for name, what in file.columns.items())]
    return "\n".join(lines) + "\n"

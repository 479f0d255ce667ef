"""``keepwell simulate SCENARIO --patient p07``: let something happen to a patient of a running demo, now."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import psycopg
import typer
from rich.console import Console

from detectors.wording import duration
from ingest.client import Credentials, DeviceClient, DoorClosed, NotDelivered
from ingest.clock import SystemClock, to_datetime, to_ms
from ingest.doors import HttpDoors
from ingest.ledger import Ledger
from ingest.verdict import Accepted, Refused
from services import devices
from services.cli.demo_cast import gateway_url
from services.cli.demo_run import PREFIX, counted
from services.devices import Enrolment
from services.settings import Settings, load
from simulators.scenarios import AT_ONCE
from simulators.series import DAY_MS, MINUTE_MS, blocks, series

ORGANISATION = typer.Option("demo", help="key of the organisation (the tenant)")
BACK_MS: Final = 15 * MINUTE_MS  # how far back a spot device's first reading lies
ALERT_S: Final = 15.0
REBUILT_S: Final = 60.0  # what lies days back is judged by a rebuild, when nothing late has come for a while
REQUESTS: Final = "requests"


class Spot(NamedTuple):
    """A device somebody puts on: what it measures, from which value to which, how often."""

    device: str
    device_class: str
    metric: str
    rule: str
    readings: tuple[tuple[int, float], ...]  # how long ago each was (ms) and its value, the oldest first


def _lately(first: float, last: float, every_ms: int) -> tuple[tuple[int, float], ...]:
    """Return readings of the time that lies at most ``BACK_MS`` back, from one value evenly to another."""
    before = range(BACK_MS, -1, -every_ms)
    return tuple(zip(before, np.linspace(first, last, len(before)).round(1).tolist(), strict=True))


# What a second device can show at once, because its metric is quiet on the patient's own one.
SPOTS: Final = {
    "fever": Spot("thermometer", "thermometer", "body_temperature", "fever", _lately(38.9, 39.4, 3 * MINUTE_MS)),
    "desaturation": Spot("oximeter", "finger_oximeter", "spo2", "spo2_low", _lately(86, 83, MINUTE_MS)),
    "weight": Spot(
        "scale", "scale", "weight", "weight_gain",
        ((3 * DAY_MS, 80.0), (2 * DAY_MS, 80.6), (DAY_MS, 81.5), (MINUTE_MS, 82.7), (0, 82.6)),
    ),
}  # fmt: skip
PLAYED: Final = (*AT_ONCE, *(name for name in SPOTS if name not in AT_ONCE))


class CannotSimulate(ValueError):
    """The scenario can't be played; the text says why and what can be done."""


def register(app: typer.Typer) -> None:
    """Add the ``simulate`` command."""

    @app.command()
    def simulate(
        scenario: str = typer.Argument(..., help=", ".join(PLAYED)),
        patient: str = typer.Option("p07", help="key of the patient"),
        organisation: str = ORGANISATION,
    ) -> None:
        """Let something happen to a patient of a running demo, now.

        fever and desaturation put a second device on the patient, a thermometer or an oximeter, which delivers
        its last 15 minutes at once, weight a scale with what it kept of the last three days: the alert follows within
        seconds, of the scale within a minute. Everything else is played from now on by
        the patient's own device in the demo, and takes as long as the rule wants to see it.
        """
        console = Console(highlight=False)
        if scenario not in PLAYED:
            raise typer.BadParameter(f"{scenario!r} is no scenario; choose {', '.join(PLAYED)}")  # noqa: EM102
        settings = load().settings
        try:
            known = _patient_id(settings, organisation, patient)
            spot = SPOTS.get(scenario)
            if spot and not _is_flowing(settings, known, spot.metric):
                asyncio.run(_put_on(settings, organisation, patient, spot, console))
            elif scenario not in AT_ONCE:
                msg = f"{patient} used the {SPOTS[scenario].device} a moment ago; choose another patient"
                raise CannotSimulate(msg)
            else:
                _request(settings, patient, scenario, console)
        except (CannotSimulate, DoorClosed, NotDelivered, psycopg.OperationalError) as error:
            console.print(f"keepwell: {error}", style="red", markup=False)
            raise typer.Exit(1) from error


def _patient_id(settings: Settings, organisation: str, patient: str) -> int:
    if not settings.postgres.host:
        msg = "no database is known; start `keepwell demo` in another terminal first"
        raise CannotSimulate(msg)
    rows = counted(
        settings,
        "SELECT p.key, p.id FROM patient p JOIN organisation o ON o.id = p.organisation_id WHERE o.key = %s ORDER BY 1",
        organisation,
    )
    found = dict(rows)
    if patient not in found:
        listed = ", ".join(found) or "none yet: is a demo running?"
        msg = f"no patient {patient!r} in {organisation}; there are {listed}"
        raise CannotSimulate(msg)
    return int(found[patient])


def _is_flowing(settings: Settings, patient_id: int, metric: str) -> bool:
    """Whether a device of the patient measures this already: then a second one's past would be late."""
    rows = counted(
        settings,
        """SELECT s.last_at FROM metric_state s JOIN metric m ON m.id = s.metric_id
           WHERE s.patient_id = %s AND m.key = %s""",
        patient_id,
        metric,
    )
    newest = rows[0][0] if rows else None
    return newest is not None and SystemClock().now_ms() - to_ms(newest) < BACK_MS + MINUTE_MS


async def _put_on(settings: Settings, organisation: str, patient: str, spot: Spot, console: Console) -> None:
    now_ms = SystemClock().now_ms()
    key = f"{spot.device}-{patient}"
    before, shown = zip(*spot.readings, strict=True)
    times, values = now_ms - np.array(before, np.int64), np.array(shown)
    since = to_datetime(int(times[0]) - 60 * MINUTE_MS)
    with psycopg.connect(settings.postgres.conninfo("admin")) as connection:
        wanted = [Enrolment(patient, key, since, model=f"simulated {spot.device}", device_class=spot.device_class)]
        (one,) = devices.enrol_many(
            connection, organisation, wanted, to_datetime(now_ms), partitions=settings.kafka.partitions, renew=True
        )
    ((after,),) = counted(settings, "SELECT coalesce(max(id), 0) FROM alert_event")
    began = time.monotonic()
    book = _folder(settings) / f"simulate-{now_ms}.book"
    with Ledger(book) as ledger:
        async with HttpDoors(gateway_url(settings), settings.tls.ca_file) as doors:
            client = DeviceClient(key, doors.door(Credentials(key, one.token or "")), ledger, f"spot-{now_ms}")
            frame = client.frame(blocks({spot.metric: series(times, values)}), now_ms)
            (verdict,) = await client.send([frame])
    if isinstance(verdict, Refused):
        msg = f"the gateway refused the frame: {verdict.field} = {verdict.value!r}; allowed is {verdict.allowed}"
        raise CannotSimulate(msg)
    assert isinstance(verdict, Accepted)  # noqa: S101 - send returns when nothing is busy any more
    console.print(
        f"{patient} uses a {spot.device}: {len(times)} readings of {spot.metric} in the last {duration(before[0])}, "
        f"{values[0]:g} to {values[-1]:g}; accepted as {verdict.frame_id}"
    )
    wait_s = REBUILT_S if before[0] > BACK_MS else ALERT_S
    sentence = await _raised(settings, one.patient_id, spot.rule, after, wait_s)
    told = f"alert after {time.monotonic() - began:.1f} s: {sentence}" if sentence else "no alert yet; see the worklist"
    console.print(told, style="bold" if sentence else "yellow")


async def _raised(settings: Settings, patient_id: int, rule: str, after: int, wait_s: float) -> str | None:
    query = """SELECT e.sentence FROM alert_event e JOIN alert a ON a.id = e.alert_id
               WHERE a.patient_id = %s AND a.rule = %s AND e.id > %s AND e.change IN ('raised', 'worsened')
               ORDER BY e.id LIMIT 1"""
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        rows = counted(settings, query, patient_id, rule, after)
        if rows:
            return str(rows[0][0])
        await asyncio.sleep(0.1)
    return None


def _request(settings: Settings, patient: str, scenario: str, console: Console) -> None:
    """Ask the running demo to play it on the patient's own device."""
    if not settings.kafka.prefix.startswith(PREFIX):
        msg = f"{scenario} is played by the patient's own device, and no demo is running here; start `keepwell demo`"
        raise CannotSimulate(msg)
    folder = _folder(settings) / REQUESTS
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"patient": patient, "scenario": scenario}
    name = folder / f"{SystemClock().now_ms()}.json"
    waiting = name.with_suffix(".new")
    waiting.write_text(json.dumps(document), "utf-8")
    waiting.rename(name)
    console.print(
        f"{patient}'s own device plays {scenario} from now on; its alert takes as long as its rule must see it"
    )


def _folder(settings: Settings) -> Path:
    """Return the folder of the running demo, or one for books of devices that were simulated without it."""
    name = settings.kafka.prefix.removeprefix(PREFIX).rstrip(".")
    return settings.stack.home / "demo" / (name or "by-hand")

"""What a patient agreed to, as they read and change it on their own page."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ingest.clock import Clock
from services.api import consent, request_keys, times
from services.api.access import Access
from services.api.scope import Scope
from services.consent import Wanted
from services.web import present

TITLES: Final = {
    "care": "Looking after you",
    "programme": "Running your care programme",
    "research": "Research",
    "genomics": "Advice about your genes",
    "family": "People you let look on",
}
WITHOUT: Final = {  # what follows when it is refused or taken back
    "care": "Your care team will no longer see your data. Nobody will watch it.",
    "programme": "Those who run your care programme will no longer see your data.",
    "research": "Your data will not be used for research.",
    "genomics": "Who advises you about your genes will not see your data.",
    "family": "People you let look on will no longer see your data.",
}
CARE_GOES_ON: Final = "Your care goes on all the same. Your care team will see that you said no."
CLASSES: Final = {
    "vitals": "heart and other body values",
    "activity": "steps and movement",
    "sleep": "sleep",
    "waveforms": "curves such as an ECG",
}
STATES: Final = {
    "given": "You agreed: {on}.",
    "refused": "You said no: {on}.",
    "withdrawn": "You took it back: {on}.",
    "ended": "You had agreed. That has ended.",
}
UNDECIDED: Final = {
    "consent": "You have not decided. Until you agree, your data is not used for this.",
    "other": "You have not decided. You do not need to: there is another lawful ground. You may say no.",
}
SAID_HERE: Final = "in the patient's own account"


async def section(scope: Scope, key: str, zone: str, now: datetime) -> list[dict[str, Any]]:
    """Return each purpose in words, with the documents that can be agreed to and what can be decided."""
    shown = await consent.shown(scope, await consent.find(scope, key))
    newest = _newest(await consent.documents(scope))
    return [
        {
            "purpose": one["purpose"],
            "title": TITLES[one["purpose"]],
            "lines": _lines(one, zone, now),
            "given": any(part["state"] == "given" for part in one["classes"]),
            "against": all(part["state"] in ("refused", "withdrawn") for part in one["classes"]),
            "without": CARE_GOES_ON if one["continues"] else WITHOUT[one["purpose"]],
            "documents": [document for document in newest if document["purpose"] == one["purpose"]],
            "may_give": shown["decides"] == "self",
        }
        for one in shown["standing"]
    ]


def add_deciding(pages: APIRouter, access: Access, clock: Clock, partitions: int) -> None:
    """Add the address where a patient decides."""

    @pages.post("/{key}/consents", response_class=HTMLResponse)
    async def decide(
        request: Request,
        key: str,
        purpose: Annotated[str, Form(max_length=20)],
        decision: Annotated[str, Form(max_length=20)],
        once: Annotated[str, Form(max_length=100)],
        document: Annotated[str, Form(max_length=300)] = "",
        version: Annotated[int | None, Form()] = None,
        language: Annotated[str, Form(max_length=35)] = "",
    ) -> Response:
        """Write down what the patient decided, once, then show how it stands."""
        wanted = Wanted(purpose, decision, "self", "", SAID_HERE, None, document, version, language)
        async with access.scoped(request, "consent.record") as scope:
            found = await consent.find(scope, key)
            if await request_keys.claim(scope, once, f"consent|{found.id}|{wanted}"):
                await consent.record(scope, found, wanted, times.present(clock), partitions)
        return RedirectResponse(f"/me/{quote(key, safe='')}#consents", 303)


def _newest(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return of each document its newest version, in English where there is one: the pages are in English."""
    found = []
    for _, versions in groupby(documents, key=lambda one: one["key"]):
        each = list(versions)
        newest = [one for one in each if one["version"] == each[0]["version"]]
        found.append(min(newest, key=lambda one: (not one["language"].startswith("en"), one["language"])))
    return found


def _lines(one: dict[str, Any], zone: str, now: datetime) -> list[str]:
    """Return how a purpose stands: one sentence, or one for each kind of data where they differ."""
    said: dict[str, list[str]] = {}
    for part in one["classes"]:
        said.setdefault(_sentence(part, one["basis"], zone, now), []).append(CLASSES[part["data_class"]])
    if len(said) == 1:
        return list(said)
    return [f"{', '.join(kinds).capitalize()}: {sentence}" for sentence, kinds in said.items()]


def _sentence(part: dict[str, Any], basis: str, zone: str, now: datetime) -> str:
    if part["state"] == "none":
        return UNDECIDED[basis]
    sentence = STATES[part["state"]].format(on=present.local(part["since"], zone, now))
    if part["state"] == "given" and part["ends_at"]:
        return f"{sentence} It ends: {present.local(part['ends_at'], zone, now)}."
    return sentence

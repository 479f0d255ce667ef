"""The addresses of consent."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from ingest.clock import Clock
from services.api import consent, request_keys, times
from services.api import consent_documents as documents
from services.api.access import Access
from services.api.change_routes import IfMatch, RequestKey
from services.api.changes import etag, expected
from services.api.documents import Whole, answers
from services.api.routes import Answer, Key
from services.consent import Wanted
from services.store.consents import Words


class Decided(BaseModel):
    """What was decided, about what, by whom and how; see `services.consent.Wanted`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    purpose: str
    decision: str
    data_classes: list[str] | None = None
    document: str = ""
    document_version: int | None = None
    language: str = ""
    relation: str = "self"
    decided_by: str = ""
    form: str = ""
    reason: str = ""
    effective_at: str | None = None
    expires_at: str | None = None

    def wanted(self) -> Wanted:
        """Return the decision as it is to be written down."""
        return Wanted(
            self.purpose, self.decision, self.relation, self.decided_by, self.form, self.data_classes, self.document,
            self.document_version, self.language,
            times.parse("effective_at", self.effective_at) if self.effective_at else None,
            times.parse("expires_at", self.expires_at) if self.expires_at else None, self.reason,
        )  # fmt: skip


class Published(BaseModel):
    """A document; without a version it is the next one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    purpose: str
    language: str
    title: str
    text: str
    version: int | None = None
    requires_renewal: bool = False


class RulesWanted(BaseModel):
    """The basis of each purpose (``consent`` or ``other``), from which age people decide; the rest stays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    basis: dict[str, str] = {}
    consent_age: int | None = None
    reason: str = ""


def router(access: Access, clock: Clock, partitions: int) -> APIRouter:
    """Return the routes of one app; ``partitions`` as the settings say of the control topic."""
    v1 = APIRouter(prefix="/v1", default_response_class=Answer)

    @v1.get("/consent/documents", responses=answers(Whole[documents.Document]))
    async def list_documents(request: Request) -> Any:
        """List what patients are asked, each version in each language."""
        async with access.scoped(request, "consent.documents") as scope:
            return {"items": await consent.documents(scope)}

    @v1.post("/consent/documents/{key}", responses=answers(documents.Document))
    async def publish_document(request: Request, key: Key, body: Published) -> Any:
        """Publish a document's next version, or the newest in another language; it is never changed afterwards."""
        async with access.scoped(request, "consent.publish") as scope:
            return await consent.publish(scope, Words(key, **body.model_dump()))

    @v1.get("/consent/basis", responses=answers(documents.Rules))
    async def read_rules(request: Request, response: Response) -> Any:
        """Show on which basis each purpose rests, and from which age people decide for themselves."""
        async with access.scoped(request, "consent.basis") as scope:
            shown = await consent.rules(scope)
        response.headers["ETag"] = etag(shown["version"])
        return shown

    @v1.put("/consent/basis", responses=answers(documents.Rules))
    async def set_rules(request: Request, response: Response, body: RulesWanted, if_match: IfMatch = None) -> Any:
        """Say on which basis each purpose rests; it holds at once, for everybody."""
        async with access.scoped(request, "consent.rules") as scope:
            shown = await consent.set_rules(scope, body.basis, body.consent_age, body.reason, expected(if_match))
        response.headers["ETag"] = etag(shown["version"])
        return shown

    @v1.get("/patients/{patient_id}/consents", responses=answers(documents.Consents))
    async def read_consents(request: Request, patient_id: Key) -> Any:
        """Show how a patient's consent stands, and every decision; also where nothing else is shown of them."""
        async with access.scoped(request, "consent.read") as scope:
            return await consent.shown(scope, await consent.find(scope, patient_id))

    @v1.post("/patients/{patient_id}/consents", responses=answers(documents.Decision))
    async def record_consent(
        request: Request, patient_id: Key, body: Decided, idempotency_key: RequestKey = None
    ) -> Any:
        """Write down what a patient, or who decides for them, gives, refuses or withdraws."""
        async with access.scoped(request, "consent.record") as scope:
            patient = await consent.find(scope, patient_id)
            if idempotency_key is not None and not await request_keys.claim(
                scope, idempotency_key, f"consent|{patient.id}|{body.model_dump_json()}"
            ):
                return (await consent.shown(scope, patient))["history"][0]
            return await consent.record(scope, patient, body.wanted(), times.present(clock), partitions)

    return v1

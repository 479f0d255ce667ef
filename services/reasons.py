"""Why a record is dead, why a reading is quarantined: one typed list of codes, their meaning, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from ingest.frame import OUT_OF_RANGE, UNIT_SUSPECTED


class DeadReason(StrEnum):
    """Why a whole record is filed as a dead letter."""

    NOT_MSGPACK = "not_msgpack"
    WRONG_SHAPE = "wrong_shape"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_METRIC = "unknown_metric"
    WRONG_KEY = "wrong_key"
    IMPOSSIBLE_CONTENT = "impossible_content"
    UNKNOWN_PATIENT = "unknown_patient"
    UNPROCESSABLE = "unprocessable"
    SKIPPED = "skipped"
    UNDECODABLE = "undecodable"
    UNKNOWN_DEVICE = "unknown_device"
    NOT_A_DEAD_RECORD = "not_a_dead_record"


class QuarantineReason(StrEnum):
    """Why a single value of a readable frame never becomes a reading."""

    OUT_OF_RANGE = "out_of_range"
    UNIT_SUSPECTED = "unit_suspected"


QUARANTINE_OF: Final[Mapping[int, QuarantineReason]] = MappingProxyType(
    {OUT_OF_RANGE: QuarantineReason.OUT_OF_RANGE, UNIT_SUSPECTED: QuarantineReason.UNIT_SUSPECTED}
)
"""The wire's quality codes from 200 on; any other is told as out of range."""


class About(NamedTuple):
    """A code in words: what it means, and what an operator does."""

    meaning: str
    action: str


ABOUT: Final[Mapping[DeadReason | QuarantineReason, About]] = MappingProxyType(
    {
        DeadReason.NOT_MSGPACK: About(
            "the bytes are no msgpack",
            "find who else writes to the topic; `keepwell dead give-up` once nothing in it is worth keeping",
        ),
        DeadReason.WRONG_SHAPE: About(
            "msgpack, but not a stamped frame (or a change)",
            "`keepwell dead show` names the field; `keepwell dead fix --set FIELD=VALUE`, then redrive",
        ),
        DeadReason.UNKNOWN_VERSION: About(
            "a stamped frame of a version this processor does not know",
            "upgrade the processors before the gateways, then redrive unchanged",
        ),
        DeadReason.UNKNOWN_METRIC: About(
            "a metric number that is not in this processor's catalogue",
            "upgrade the processors, then redrive unchanged; or fix the metric",
        ),
        DeadReason.WRONG_KEY: About(
            "the record's key is not the patient it speaks of, so it may be in another patient's partition",
            "`keepwell dead fix` with the right patient_id writes the right key; then redrive",
        ),
        DeadReason.IMPOSSIBLE_CONTENT: About(
            "of the right shape, but its lengths, instants or numbers contradict each other",
            "`keepwell dead show` says which; fix and redrive, or give it up with a note",
        ),
        DeadReason.UNKNOWN_PATIENT: About(
            "the patient is not enrolled in this database",
            "restore or enrol the patient, then redrive unchanged; or fix the patient_id",
        ),
        DeadReason.UNPROCESSABLE: About(
            "readable, but processing it raised an error: a fault of this software until shown otherwise",
            "report the detail; upgrade or roll back the processors, then redrive unchanged",
        ),
        DeadReason.SKIPPED: About(
            "an operator stepped over it with `keepwell dead skip`",
            "redrive it once its cause is mended, or give it up with a note",
        ),
        DeadReason.UNDECODABLE: About(
            "a device sent a door something that is no frames",
            "look at the device's firmware or the sender's code; it was told so; give the letter up when mended",
        ),
        DeadReason.UNKNOWN_DEVICE: About(
            "a device that is not enrolled sent something over MQTT",
            "enrol it, or take its MQTT password away; it was told so and sends again; give the letter up",
        ),
        DeadReason.NOT_A_DEAD_RECORD: About(
            "somebody else put a record on `dead.v1` without a reason and the original bytes",
            "find who writes to the topic; the form is in `services/processor/filing.py`",
        ),
        QuarantineReason.OUT_OF_RANGE: About(
            "outside what is possible for the metric (the catalogue's hard range)",
            "look at the device: a loose sensor, a wrong setting",
        ),
        QuarantineReason.UNIT_SUSPECTED: About(
            "impossible as sent, and plausible in a unit the metric is usually confused with",
            "correct the unit the device is said to send in; the values are never converted on suspicion",
        ),
    }
)


def explain(code: str) -> About:
    """Return what a stored code means; a code of a newer version is told as such."""
    for reason, about in ABOUT.items():
        if reason == code:
            return about
    return About(f"{code}: a code this version does not know", "look it up in the version that wrote it")

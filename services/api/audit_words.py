"""The audit in words a patient understands: who did what with my data, and what for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.api.query import Row

WHAT: Final[Mapping[str, str]] = {
    "account.accept": "accepted an invitation",
    "account.end_session": "ended a session",
    "account.password": "changed their password",
    "account.read": "looked at their own account",
    "account.recovery_codes": "made new recovery codes",
    "account.sign_in": "signed in",
    "account.sign_out": "signed out",
    "alert.acknowledge": "acknowledged an alert about you",
    "alert.read": "read an alert about you",
    "alert.stream": "was sent news of an alert about you",
    "alerts.list": "saw alerts about you in a list",
    "audit.read": "searched the record of who used your data",
    "wearing.read": "saw you on the list of who wears their device less",
    "budget.read": "counted alerts about you among those of your care team",
    "break_glass.list": "saw who opened your data outside their team",
    "break_glass.open": "opened your data outside their team, for a reason they gave",
    "break_glass.review": "reviewed why somebody opened your data outside their team",
    "consent.basis": "read on which ground data are used here",
    "consent.documents": "read what patients are asked to agree to",
    "consent.publish": "published what patients are asked to agree to",
    "consent.read": "read what you agreed to",
    "consent.record": "wrote down what you agreed to or not",
    "consent.rules": "changed on which ground data are used here",
    "dead.fix": "mended a message from your device that could not be read",
    "dead.give_up": "gave up a message from your device that could not be read",
    "dead.list": "saw a message from your device among those that could not be read",
    "dead.redrive": "sent a message from your device through again",
    "dead.show": "looked into a message from your device that could not be read",
    "dead.skip": "set aside a message from your device that could not be processed",
    "device.class": "wrote down what kind of device yours is",
    "device.hand_over": "wrote down whose a device of yours is",
    "device.history": "looked at whose a device of yours was",
    "device.revoke": "ended your device's access",
    "frame.read": "looked up what became of something your device sent",
    "incident.acknowledge": "acknowledged alerts about you",
    "incidents.list": "saw alerts about you, those of one time together",
    "monitoring.read": "read what is watched of you",
    "enrolment.read": "read which programmes you are in",
    "life_event.read": "read which medicines and events of yours are written down",
    "limits.read": "read the limits that hold for everybody",
    "limits.write": "changed the limits that hold for everybody",
    "patient.accesses": "read this list",
    "patient.changes": "read what was changed about you",
    "patient.enrol": "enrolled you",
    "patient.erase": "asked for all your data to be erased",
    "patient.erased": "erased all your data",
    "patient.enrolment": "took a step of your enrolment in a programme",
    "patient.export": "took a copy of your data",
    "patient.life_event": "wrote down, or put right, a medicine or an event of yours",
    "patient.limits": "changed your own limits, the bounds of your own usual, or your alert budget",
    "patient.monitoring": "changed what is watched of you",
    "patient.new_normal": "said that one of your values is as it should be from now on",
    "patient.profile": "changed your profile",
    "patient.read": "opened your page",
    "patient.suppressed": "read what was kept quiet about you",
    "patients.import": "enrolled you or gave you a device, from a list",
    "patients.list": "saw your name in the list of patients",
    "person.link": "wrote down which account is yours",
    "person.unlink": "ended that an account is yours",
    "profile.read": "read your profile or your own limits",
    "programme.list": "listed the programmes",
    "programme.read": "read a programme",
    "programme.state": "began or ended a programme",
    "programme.write": "changed a programme",
    "proxy.end": "ended what somebody may see of you",
    "proxy.grant": "wrote down whom you let see your data",
    "proxy.list": "looked at whom you let see your data",
    "quarantine.list": "looked at values from your device that could not be true",
    "rules.dry_run": "tried other limits, bounds or another alert budget on your readings, without changing anything",
    "scores.read": "looked at scores worked out of your readings",
    "team.release": "ended that a care team looks after you",
    "team.show": "saw your name among those a care team looks after",
    "team.take": "put you into the care of a team",
    "trend.read": "looked at a chart of your readings",
    "worklist.read": "saw you on the worklist",
}
WHAT_FOR: Final[Mapping[str, str]] = {
    "care": "for your care",
    "break_glass": "in an emergency",
    "operations": "to run this service",
    "patient_right": "because you have a right to it",
    "programme": "to organise your care programme",
    "research": "for research",
    "genomics": "for advice about your genes",
    "family": "as somebody you let look on",
}


def who(row: Row) -> str:
    """Return who did it: a person with the role they had then, the service's operators, or the service itself."""
    if row["actor"] == "command":
        return "The operators of this service"
    if row["actor"] == "service":
        return "Keepwell itself"
    name = row["person_name"] or "Somebody who has left"
    return f"{name} ({row['role'].replace('_', ' ')})" if row["role"] else name


def sentence(row: Row) -> str:
    """Return one group of accesses as a sentence to the patient, who is "you" in it."""
    what = WHAT.get(row["action"], f"used your data ({row['action']})")
    purpose = WHAT_FOR.get(row["purpose"], f"for {row['purpose'].replace('_', ' ')}")
    often = "" if row["times"] == 1 else f", {row['times']} times"
    own = row["actor"] == "person" and row["role"] == "patient"  # nobody else of that role sees anything of this one
    subject, was = ("You", "were") if own else (who(row), "was")
    if row["outcome"] == "refused" and row["withheld"]:
        return f"{subject} was refused, because you did not agree to it {purpose}: it would have been “{what}”{often}."
    if row["outcome"] == "refused":
        return f"{subject} {was} refused: it would have been “{what}”{often}."
    if row["outcome"] == "failed":
        return f"{subject} tried and did not get through: it would have been “{what}”{often}."
    if own:
        return f"You {what.replace('was ', 'were ', 1) if what.startswith('was ') else what}{often}."
    return f"{subject} {what}, {purpose}{often}."


def access(row: Row) -> dict[str, Any]:
    """Return what says who and what, for programs, beside the sentence."""
    return {
        "who": who(row), "role": row["role"] or None, "action": row["action"], "purpose": row["purpose"],
        "outcome": row["outcome"], "times": row["times"], "sentence": sentence(row),
    }  # fmt: skip

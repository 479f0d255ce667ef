"""The roles a person may have; what each may do is the API's to say."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal[
    "clinician", "nurse", "coordinator", "pharmacist", "genetic_counsellor", "data_specialist", "researcher",
    "administrator", "patient", "proxy",
]  # fmt: skip
ROLES: tuple[Role, ...] = get_args(Role)

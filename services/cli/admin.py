"""``keepwell admin``: organisations, care teams, people, proxies and devices, from the command line."""

from __future__ import annotations

from typing import Final

import typer

from services.cli import (
    admin_device,
    admin_import_patients,
    admin_organisation,
    admin_people,
    admin_proxy,
    admin_team,
)

HELP: Final = """Manage who works here, who looks after whom, and whose device it is.

    keepwell admin organisation add clinic --name "Heart clinic"
    keepwell admin team add heart --name "Heart failure"         then join people, take patients
    keepwell admin people import staff.csv --check               says what is wrong, writes nothing
    keepwell admin patients import patients.csv
    keepwell admin patients export p20 --out p20.zip             a copy of all their data, as is their right
    keepwell admin proxy grant p20 mia --what alerts --until 2027-01-01T00:00Z
    keepwell admin device hand-over watch-7 p21

Nothing is ever deleted: memberships, grants and assignments end, and the audit says who ended them. A right can't
begin or end in the past, because what somebody could see then is a fact.
"""


def register(app: typer.Typer) -> None:
    """Add the ``admin`` commands."""
    admin = typer.Typer(help=HELP, no_args_is_help=True)
    app.add_typer(admin, name="admin")
    for module in (admin_organisation, admin_team, admin_people, admin_import_patients, admin_proxy, admin_device):
        module.register(admin)

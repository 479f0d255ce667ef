"""``keepwell account``: invite people, and give programs tokens with scopes."""

from __future__ import annotations

from typing import Final

import typer
from rich.console import Console

from services.cli import say
from services.cli.admin_desk import desk
from services.cli.say import JSON, ORGANISATION, known_role, refuse
from services.roles import ROLES
from services.settings import load

HELP: Final = """Invite people, and give programs tokens that may do some things and no others.

    keepwell account invite ada --role nurse --name "Ada Nurse"     a link: works once, within 7 days
    keepwell account token reports --scope alerts:read --days 90    a token for a program, shown once
    keepwell account tokens                                         which work, and until when
    keepwell account revoke kws_1a2b3c4d                            ends one at once

An invitation to somebody who has an account is their way back in: it replaces password and app.
"""
SCOPE = typer.Option(..., help="what it may do, e.g. alerts:read; say it again for more")


def register(app: typer.Typer) -> None:
    """Add the ``account`` commands."""
    account = typer.Typer(help=HELP, no_args_is_help=True)
    app.add_typer(account, name="account")
    for command in (invite, token, tokens, revoke):
        account.command(command.__name__)(command)


def invite(
    key: str = typer.Argument(..., help="key of the person, e.g. ada; made where missing"),
    role: str = typer.Option(None, help=f"what they are: {', '.join(ROLES)}"),
    name: str = typer.Option("", help="what colleagues call them"),
    organisation: str = ORGANISATION,
) -> None:
    """Print a link with which a person makes their account: it works once, within 7 days."""
    from services.api.identity.vault import open_vault
    from services.people import invite
    from services.runtime import api_base

    settings = load().settings
    if open_vault(settings.identity) is None:
        refuse("accounts need identity.key or identity.key_file; the local stack (`keepwell up`) makes one")
    wanted = None if role is None else known_role(role)
    with desk(organisation) as at:
        made = invite(at.connection, organisation, key, name, wanted, at.now)
        at.note("account.invite", person=key, role=wanted)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{api_base(settings)}/invitation?token={made}")
    console.print(f"for {key}@{organisation}, once, within 7 days; give it to nobody else")


def token(
    name: str = typer.Argument(..., help="what the program is called, e.g. reports"),
    scope: list[str] = SCOPE,
    days: int = typer.Option(90, help="how long it works, at most 366"),
    role: str = typer.Option("coordinator", help="the role that limits it further"),
    organisation: str = ORGANISATION,
) -> None:
    """Print a token for a program, once; send it as `Authorization: Bearer`."""
    from services.api.identity.scopes import SCOPES
    from services.people import prefix_of, service_token

    unknown = [one for one in scope if one not in SCOPES]
    if unknown:
        refuse(f"--scope {unknown[0]!r} is not known; there are {', '.join(SCOPES)}")
    wanted, scopes = known_role(role), sorted(set(scope))
    with desk(organisation) as at:
        made = service_token(at.connection, organisation, name, wanted, scopes, at.now, days)
        at.note("account.token", program=name, role=wanted, scopes=scopes, days=days, prefix=prefix_of(made))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"token (shown once): {made}")
    console.print(f"{name} may {', '.join(scopes)} for {days} days; `keepwell account revoke` ends it")


def tokens(organisation: str = ORGANISATION, as_json: bool = JSON) -> None:
    """List the service tokens that work, the first to end first."""
    from services.people import service_tokens

    with desk(organisation) as at:
        found = service_tokens(at.connection, organisation, at.now)
        at.note("account.tokens", tokens=len(found))
    say.rows([row | {"scopes": ", ".join(row["scopes"])} for row in found], as_json, "no service token works")


def revoke(
    prefix: str = typer.Argument(..., help="the token's first part, e.g. kws_1a2b3c4d"),
    organisation: str = ORGANISATION,
) -> None:
    """End a service token: the next request with it is refused."""
    from services.people import revoke_token

    with desk(organisation) as at:
        revoke_token(at.connection, organisation, prefix, at.now)
        at.note("account.revoke", prefix=prefix)
    Console(highlight=False).print(f"{prefix} no longer works")

"""The groups of settings, and what each key in them means and may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from services.roles import ROLES

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"]


class Section(BaseModel):
    """A group of settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def safe_address(address: str) -> bool:
    """Whether what goes to an address cannot be read on the way: https, or this very machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))


class StackSettings(Section):
    """The local stack made by ``keepwell up``."""

    home: Path = Field(Path(".keepwell/default"), description="folder of the local stack: data, logs, certificates")
    base_port: int = Field(29000, description="first port of the stack; 0 chooses free ones and keeps them")


class KafkaSettings(Section):
    """The broker."""

    bootstrap: str = Field("", description="host:port of the broker; empty until a stack is up")
    prefix: str = Field("", description="put before every topic's and group's name, to share a broker")
    partitions: int = Field(
        12, ge=1, le=512, description="partitions of each reading topic; a change is a drain-and-move step"
    )
    replication: int = Field(1, ge=1, description="replication factor of new topics; 3 in production")


class PostgresSettings(Section):
    """TimescaleDB on PostgreSQL, with one login role for each kind of process."""

    host: str = ""
    port: int = 5432
    database: str = "keepwell"
    sslmode: Literal["", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "",
        description="as libpq's; verify-full wherever the database is another machine; empty: PGSSLMODE, else prefer",
    )
    ca_file: Path | None = Field(None, description="who signed the server's certificate; empty: as libpq looks for it")
    admin_user: str = Field(
        "keepwell_admin", description="owns the schema; used by `keepwell migrate` and the admin commands only"
    )
    admin_password: SecretStr = SecretStr("")
    writer_password: SecretStr = SecretStr("")
    api_password: SecretStr = SecretStr("")
    gateway_password: SecretStr = SecretStr("")
    notifier_password: SecretStr = Field(SecretStr(""), description="empty: the role exists and nobody can log in")
    research_password: SecretStr = Field(SecretStr(""), description="empty: the role exists and nobody can log in")

    def conninfo(
        self, role: Literal["admin", "writer", "api", "gateway", "notifier", "research"], database: str | None = None
    ) -> str:
        """Return a libpq connection string for one of the login roles."""
        from psycopg.conninfo import make_conninfo

        user = self.admin_user if role == "admin" else f"keepwell_{role}"
        tls = {"sslmode": self.sslmode, "sslrootcert": self.ca_file and str(self.ca_file)}
        password: SecretStr = getattr(self, f"{role}_password")
        return make_conninfo(
            host=self.host,
            port=self.port,
            dbname=database or self.database,
            user=user,
            password=password.get_secret_value(),
            application_name=f"keepwell-{role}",
            connect_timeout=5,
            tcp_user_timeout=20_000,
            **{name: value for name, value in tls.items() if value},
        )

    @field_validator("ca_file", mode="before")
    @classmethod
    def _no_file(cls, value: object) -> object:
        """Take an empty text for no file."""
        return value or None

    @model_validator(mode="after")
    def _checks_what_it_trusts(self) -> Self:
        if self.ca_file is not None and self.sslmode not in ("verify-ca", "verify-full"):
            msg = f"ca_file is looked at only with sslmode verify-ca or verify-full, not {self.sslmode or 'empty'!r}"
            raise ValueError(msg)
        return self


class MqttSettings(Section):
    """The MQTT broker devices publish to."""

    host: str = ""
    port: int = 8883
    bridge_user: str = "bridge"
    bridge_password: SecretStr = SecretStr("")
    ca_file: Path | None = None


class TlsSettings(Section):
    """Certificate of the gateway (and, when set, of the API)."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class GatewaySettings(Section):
    """The HTTPS door for devices."""

    host: str = "127.0.0.1"
    port: int = 29043
    max_in_flight: int = Field(
        512, ge=1, description="requests held at once; waveforms are refused past half of it, everything past it (503)"
    )
    max_waiting_mb: int = Field(64, ge=8, description="megabytes of bodies held at once, with the same two marks")
    max_waiting_frames: int = Field(
        20_000, ge=200, description="frames waiting for the broker's acknowledgement, with the same two marks"
    )
    frames_per_second: float = Field(50.0, description="a device's allowance; past it 429 with Retry-After")
    burst: int = Field(2000, description="frames a device may send in one burst after being offline")


class ApiSettings(Section):
    """The care-team API and its screens."""

    host: str = "127.0.0.1"
    port: int = 29080
    public_url: str = Field("", description="address in links; empty: made of host and port")
    break_glass_h: float = Field(
        4, gt=0, le=24, description="hours a person sees a patient outside their team after giving a reason"
    )
    trusted_proxies: str = Field(
        "",
        description="addresses of proxies, with commas, whose X-Forwarded-For and -Proto are believed; empty: nobody's "
        "(with --behind-proxy: those of one on 127.0.0.1)",
    )


class IdentitySettings(Section):
    """Who somebody is: accounts of Keepwell's own (with ``key``), a provider's people (with ``issuer``), or both."""

    key: SecretStr = Field(SecretStr(""), description="seals the secrets of people's apps; 32 characters or more")
    key_file: Path | None = Field(None, description="a file with that key, closed to others; read where key is empty")
    idle_minutes: int = Field(30, ge=1, le=24 * 60, description="without use for this long, a session ends")
    session_hours: int = Field(12, ge=1, le=24 * 7, description="a session ends after this long, used or not")
    issuer: str = Field("", description="OpenID Connect: the provider's issuer, exactly as its tokens say it")
    client_id: str = Field("", description="what the provider calls these screens")
    client_secret: SecretStr = SecretStr("")
    audience: str = Field(
        "", description="what access tokens for the API must be for, another than client_id; empty: none are taken"
    )
    clients: tuple[str, ...] = Field((), description="further clients whose access tokens are taken (azp)")
    algorithms: tuple[Algorithm, ...] = Field(("RS256", "PS256", "ES256"), description="signatures that are taken")
    role_claim: str = Field("roles", description="claim with a person's roles; dots lead into objects")
    role_map: dict[str, str] = Field(
        {}, description="a value of that claim → a role here; empty: roles are as Keepwell has them"
    )
    person_claim: str = Field(
        "", description="claim that holds a person's key, for whom nobody linked before; empty: by invitation only"
    )
    organisation: str = Field("", description="key of the organisation person_claim speaks of")

    @field_validator("key_file", mode="before")
    @classmethod
    def _no_file(cls, value: object) -> object:
        """Take an empty text for no file."""
        return value or None

    @field_validator("role_map", "clients", "algorithms", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        """Read what an environment variable holds: JSON."""
        return json.loads(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        unknown = sorted(set(self.role_map.values()) - set(ROLES))
        if unknown:
            msg = f"role_map leads to {unknown[0]!r}; the roles are {', '.join(ROLES)}"
            raise ValueError(msg)
        if self.issuer and not self.client_id:
            msg = "with an issuer, client_id is needed: register these screens with the provider"
            raise ValueError(msg)
        if self.issuer and not safe_address(self.issuer):
            msg = f"issuer {self.issuer!r} must be an https address (http only on loopback)"
            raise ValueError(msg)
        if self.audience and self.audience == self.client_id:
            msg = "audience must differ from client_id, or an ID token could pass for an access token"
            raise ValueError(msg)
        if bool(self.person_claim) != bool(self.organisation):
            msg = "person_claim and organisation go together: a key is a person's in one organisation"
            raise ValueError(msg)
        return self


class ProcessorSettings(Section):
    """The stream processor."""

    reordering_bound_s: int = Field(
        120, ge=1, le=3600, description="how long settled results wait for out-of-order data"
    )
    clock_skew_s: int = Field(
        300, ge=0, description="a device whose clock is further ahead than this raises clock_fault"
    )
    silence_s: int = Field(7200, ge=60, description="no data for this long raises the technical alert device_silent")
    history_after_s: int = Field(
        21_600,
        ge=3600,
        description="data older than this when received are history: they go by backfill.v1 and nobody is paged",
    )
    alert_budget: Literal["0.1", "0.2", "0.3"] = Field(
        "0.1",
        description="clinical incidents a patient-week that all adaptive rules may bring together, where no layer of "
        "rules says otherwise; safety has none",
    )
    max_records: int = Field(2000, ge=1, le=20000, description="Kafka records in one transaction at the most")
    instance_id: str = Field("", description="static membership: a name unique to this process, or empty")


class MetricsSettings(Section):
    """Where each process shows /metrics, /healthz and /readyz; 0 switches one off.

    Several processes of a kind on one machine take the next free ports, up to 15 further.
    """

    host: str = Field("127.0.0.1", description="address to listen on; there is no login, so keep it on loopback")
    gateway_port: int = Field(28100, ge=0, le=65520)
    bridge_port: int = Field(28120, ge=0, le=65520)
    processor_port: int = Field(28140, ge=0, le=65520)
    api_port: int = Field(28160, ge=0, le=65520)


class WatchdogSettings(Section):
    """When a process that has stalled ends itself, to be started again by its supervisor."""

    stalled_s: float = Field(
        60, ge=0, description="the event loop does not turn, or nothing is committed, for this long: exit 86; 0: never"
    )


class ClockSettings(Section):
    """Where the present comes from."""

    source: Literal["system", "driven"] = Field(
        "system", description="driven: by the ticks of a time-lapse on control.v1"
    )

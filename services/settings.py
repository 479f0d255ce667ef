"""The one settings model: defaults < the stack's own ``stack.toml`` < ``keepwell.toml`` < ``KEEPWELL_*`` < flags.

Unknown keys are refused with the nearest name. A key's environment variable is its dotted name, e.g.
``KEEPWELL_KAFKA__BOOTSTRAP`` for ``kafka.bootstrap``. Few keys are needed in production: the servers' addresses,
the passwords and the certificate.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from services.errors import SettingsError as SettingsError
from services.settings_sections import (
    ApiSettings,
    ClockSettings,
    GatewaySettings,
    IdentitySettings,
    KafkaSettings,
    MetricsSettings,
    MqttSettings,
    PostgresSettings,
    ProcessorSettings,
    Section,
    StackSettings,
    TlsSettings,
    WatchdogSettings,
)

IDENTITY_KEY = "identity.key"  # beside stack.toml, made by `keepwell up`
PLACEHOLDERS = frozenset(
    {
        "admin", "change-me", "changeme", "default", "example", "keepwell", "password", "postgres", "replace-me",
        "root", "secret", "test",
    }
)  # fmt: skip


class Settings(Section):
    """Everything Keepwell can be told."""

    stack: StackSettings = StackSettings()
    kafka: KafkaSettings = KafkaSettings()
    postgres: PostgresSettings = PostgresSettings()
    mqtt: MqttSettings = MqttSettings()
    tls: TlsSettings = TlsSettings()
    gateway: GatewaySettings = GatewaySettings()
    api: ApiSettings = ApiSettings()
    identity: IdentitySettings = IdentitySettings()
    processor: ProcessorSettings = ProcessorSettings()
    metrics: MetricsSettings = MetricsSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    clock: ClockSettings = ClockSettings()


@dataclass
class Loaded:
    """Settings, and for each dotted key where its value came from."""

    settings: Settings
    origin: dict[str, str] = field(default_factory=dict)


def load(
    flags: Mapping[str, Any] | None = None, *, file: Path | None = None, environ: Mapping[str, str] | None = None
) -> Loaded:
    """Merge all layers into one checked model.

    ``flags`` maps dotted keys to values, e.g. ``{"stack.home": "/srv/keepwell"}``; None values are skipped.

    Raises:
        SettingsError: an unknown key, or a value of the wrong type.
    """
    environ = os.environ if environ is None else environ
    path = file or Path(environ.get("KEEPWELL_CONFIG", "keepwell.toml"))
    layers: list[tuple[str, dict[str, Any]]] = []
    if path.exists():
        layers.append((str(path), dict(_flatten(_read(path)))))
    elif file is not None:
        msg = f"settings file {path} does not exist; create it or leave the flag out"
        raise SettingsError(msg)
    layers.append(("environment", dict(_from_environ(environ))))
    layers.append(("flag", {key: value for key, value in (flags or {}).items() if value is not None}))
    home = Path(str(_last(layers, "stack.home", StackSettings().home)))
    if (home / IDENTITY_KEY).exists():
        layers.insert(0, ("the local stack", {"identity.key_file": home / IDENTITY_KEY}))
    for name in ("demo.toml", "stack.toml"):  # a running demo's database and topics; what `keepwell up` wrote
        generated = home / name
        if generated.exists():
            layers.insert(0, (str(generated), dict(_flatten(_read(generated)))))
    return _merge(layers)


def known_keys() -> dict[str, Any]:
    """Return every dotted key with its default, in the model's order."""
    keys: dict[str, Any] = {}
    for section, info in Settings.model_fields.items():
        model = info.annotation
        assert isinstance(model, type)  # noqa: S101 - every field of Settings is a section
        assert issubclass(model, Section)  # noqa: S101
        for name, sub in model.model_fields.items():
            keys[f"{section}.{name}"] = sub.default
    return keys


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        msg = f"{path} is not valid TOML: {error}"
        raise SettingsError(msg) from error


def _flatten(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, entries in table.items():
        if isinstance(entries, Mapping):
            for name, value in entries.items():
                yield f"{section}.{name}", value
        else:
            yield section, entries


def _from_environ(environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    for name, value in environ.items():
        if not name.startswith("KEEPWELL_") or "__" not in name:
            continue
        key = name.removeprefix("KEEPWELL_").lower().replace("__", ".", 1)
        if key.endswith("_file") and key.removesuffix("_file") in known_keys() and key not in known_keys():
            yield key.removesuffix("_file"), Path(value).read_text("utf-8").strip()
        else:
            yield key, value


def _last(layers: list[tuple[str, dict[str, Any]]], key: str, default: object) -> object:
    for _, values in reversed(layers):
        if key in values:
            return values[key]
    return default


def _merge(layers: list[tuple[str, dict[str, Any]]]) -> Loaded:
    keys = known_keys()
    merged: dict[str, dict[str, Any]] = {}
    origin = dict.fromkeys(keys, "default")
    for where, values in layers:
        for key, value in values.items():
            if key not in keys:
                near = difflib.get_close_matches(key, keys, n=1, cutoff=0.4)
                hint = f"; did you mean {near[0]}?" if near else "; see `keepwell config show`"
                msg = f"unknown setting {key!r} (from {where}){hint}"
                raise SettingsError(msg)
            section, name = key.split(".", 1)
            merged.setdefault(section, {})[name] = value
            origin[key] = where
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        value = first.get("input")
        shown = "" if isinstance(value, Mapping) else f" = {value!r}"  # a whole section may hold a secret
        msg = f"setting {key}{shown} (from {origin.get(key, 'settings')}): {first['msg']}"
        raise SettingsError(msg) from error
    _refuse_placeholders(settings)
    return Loaded(settings, origin)


def _refuse_placeholders(settings: Settings) -> None:
    for section in Settings.model_fields:
        for name, value in getattr(settings, section):
            if isinstance(value, SecretStr) and value.get_secret_value().strip().lower() in PLACEHOLDERS:
                msg = f"setting {section}.{name} still holds a placeholder; set a secret of its own"
                raise SettingsError(msg)

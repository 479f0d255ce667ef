"""One settings model: layers, origins, and refusals that name the value and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from services.settings import SettingsError, known_keys, load


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_each_layer_overrides_the_one_before(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write(home / "stack.toml", '[kafka]\nbootstrap = "stack:1"\nprefix = "stack."\n[api]\nport = 1\n')
    file = write(tmp_path / "keepwell.toml", '[kafka]\nbootstrap = "file:2"\nprefix = "file."\n')
    loaded = load(
        {"stack.home": home, "kafka.prefix": "flag.", "kafka.partitions": None},
        file=file,
        environ={"KEEPWELL_KAFKA__PREFIX": "env.", "KEEPWELL_GATEWAY__PORT": "7", "OTHER": "x"},
    )
    settings, origin = loaded.settings, loaded.origin
    assert (settings.api.port, origin["api.port"]) == (1, str(home / "stack.toml"))
    assert (settings.kafka.bootstrap, origin["kafka.bootstrap"]) == ("file:2", str(file))
    assert (settings.gateway.port, origin["gateway.port"]) == (7, "environment")
    assert (settings.kafka.prefix, origin["kafka.prefix"]) == ("flag.", "flag")
    assert (settings.kafka.partitions, origin["kafka.partitions"]) == (12, "default")


def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    file = write(tmp_path / "keepwell.toml", '[kafka]\nbootstrp = "x:1"\n')
    with pytest.raises(SettingsError, match=r"'kafka.bootstrp'.*did you mean kafka\.bootstrap"):
        load(file=file, environ={})


def test_a_wrong_value_names_key_value_and_origin() -> None:
    with pytest.raises(SettingsError, match=r"kafka\.partitions = 'many' \(from environment\)"):
        load(environ={"KEEPWELL_KAFKA__PARTITIONS": "many"})


SECRETS = [key for key, default in known_keys().items() if isinstance(default, SecretStr)]


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_left_at_its_placeholder_is_refused(key: str) -> None:
    assert "postgres.api_password" in SECRETS
    for placeholder in ("change-me", " Password ", "postgres", "KEEPWELL"):
        with pytest.raises(SettingsError, match=rf"{key}.*placeholder"):
            load(environ={f"KEEPWELL_{key.replace('.', '__').upper()}": placeholder})


def test_a_secret_is_read_from_a_file_and_never_shown(tmp_path: Path) -> None:
    file = write(tmp_path / "secret", "s3cr3t-value\n")
    settings = load(environ={"KEEPWELL_POSTGRES__API_PASSWORD_FILE": str(file)}).settings
    assert settings.postgres.api_password.get_secret_value() == "s3cr3t-value"
    assert "s3cr3t" not in repr(settings)


def test_a_missing_file_and_broken_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load(file=tmp_path / "none.toml", environ={})
    with pytest.raises(SettingsError, match="not valid TOML"):
        load(file=write(tmp_path / "keepwell.toml", "[kafka"), environ={})


def test_every_key_has_a_default() -> None:
    assert load(environ={}).origin.keys() == known_keys().keys()


def test_the_database_is_reached_over_tls_as_the_settings_say(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    environ = {"KEEPWELL_POSTGRES__SSLMODE": "verify-full", "KEEPWELL_POSTGRES__CA_FILE": str(authority)}
    for role in ("admin", "writer", "api", "gateway"):
        said = load(environ=environ).settings.postgres.conninfo(role)
        assert "sslmode=verify-full" in said
        assert f"sslrootcert={authority}" in said
    assert "ssl" not in load(environ={}).settings.postgres.conninfo("api")
    with pytest.raises(SettingsError, match="verify-full"):
        load(environ={"KEEPWELL_POSTGRES__SSLMODE": "sometimes"})
    with pytest.raises(SettingsError, match="only with sslmode"):
        load(environ={"KEEPWELL_POSTGRES__CA_FILE": str(authority)})

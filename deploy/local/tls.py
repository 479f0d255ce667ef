"""A certificate authority of this stack's own and one server certificate for this machine."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ingest.clock import Clock, to_datetime

CA_DAYS = 3650
SERVER_DAYS = 397
RENEW_DAYS = 30

Key = ec.EllipticCurvePrivateKey


def ensure(folder: Path, clock: Clock) -> bool:
    """Make ``ca.pem``, ``ca.key``, ``server.pem`` and ``server.key`` in ``folder``, or renew what ends soon.

    Returns whether anything was made. Clients keep their trust when only the server's certificate is renewed.
    """
    now = to_datetime(clock.now_ms())
    made = False
    if not _lasts(folder / "ca.pem", now) or not (folder / "ca.key").exists():
        _write_authority(folder, now)
        made = True
    if made or not _lasts(folder / "server.pem", now) or not (folder / "server.key").exists():
        _write_server(folder, now)
        made = True
    return made


def _lasts(path: Path, now: datetime.datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return False
    return certificate.not_valid_after_utc - now > datetime.timedelta(days=RENEW_DAYS)


def _builder(now: datetime.datetime, days: int, name: x509.Name, key: Key) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_authority(folder: Path, now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Keepwell local CA")])
    certificate = (
        _builder(now, CA_DAYS, name, key)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder, "ca", key, certificate)


def _write_server(folder: Path, now: datetime.datetime) -> None:
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)  # noqa: S101 - we wrote it
    key = ec.generate_private_key(ec.SECP256R1())
    names = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    certificate = (
        _builder(now, SERVER_DAYS, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), key)
        .issuer_name(authority.subject)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_issued_by(signer), critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write(folder, "server", key, certificate)


def _issued_by(signer: Key) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())


def _write(folder: Path, name: str, key: Key, certificate: x509.Certificate) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path, mode, content in (
        (folder / f"{name}.key", 0o600, private),
        (folder / f"{name}.pem", 0o644, certificate.public_bytes(serialization.Encoding.PEM)),
    ):
        fresh = path.with_suffix(path.suffix + ".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=mode)
        fresh.write_bytes(content)
        fresh.replace(path)

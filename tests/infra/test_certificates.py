"""The certificate authorities of RDS, and clients that verify a server with them."""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import psycopg
import pulumi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from infra.airflow_platform import AUTHORITIES, DatabaseAccess
from infra.aws import certificates
from infra.aws.certificates import CertificateError, of_region
from infra.settings import load
from ops.loopback import LOOPBACK
from ops.plan.recording import stacks
from tests import database_server

REGIONS = re.findall(r"^# (\S+)$", certificates.FILE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_has_an_authority_for_each_kind_of_key(region: str) -> None:
    found = x509.load_pem_x509_certificates(of_region(region).encode())
    names = [one.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value for one in found]
    assert names == [f"Amazon RDS {region} Root CA {kind} G1" for kind in ("ECC384", "RSA2048", "RSA4096")]
    for one in found:
        one.verify_directly_issued_by(one)
        assert one.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3650)
        assert one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_authorities_of_every_stack_are_known() -> None:
    for stack in stacks():
        settings = load(stack)
        if hasattr(settings, "region"):
            assert of_region(settings.region)


def test_an_unknown_region_is_an_error_with_the_address_of_its_authorities() -> None:
    with pytest.raises(CertificateError, match=r"no certificate authority of RDS in xx-1: append .*/xx-1-bundle\.pem"):
        of_region("xx-1")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="certificates-") as name:
        yield Path(name)


def issue(folder: Path, name: str, issuer: str | None = None) -> Path:
    """Create a key and a certificate for a host, signed by another certificate or by itself; return the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer or name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    signing = serialization.load_pem_private_key((folder / f"{issuer}.key").read_bytes(), None) if issuer else key
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    encoding = serialization.Encoding.PEM
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate = folder / f"{name}.pem"
    certificate.write_bytes(builder.sign(signing, hashes.SHA256()).public_bytes(encoding))
    return certificate


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    """Start a server behind TLS, with a certificate for `localhost` from the authority `ours`; give its port."""
    issue(folder, "ours")
    issue(folder, "theirs")
    certificate = issue(folder, "localhost", "ours")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with database_server.running() as server, socket.create_server((LOOPBACK, 0)) as listener:
        Thread(target=serve, args=(listener, context, server.port), daemon=True).start()
        yield int(listener.getsockname()[1])


def serve(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Encrypt connections to a PostgreSQL server that cannot, as the one of laptops."""
    with suppress(OSError):  # closed
        while True:
            client, _ = listener.accept()
            client.recv(8)  # the request for encryption: https://www.postgresql.org/docs/current/protocol-flow.html
            client.sendall(b"S")
            with suppress(ssl.SSLError, ConnectionError):
                encrypted = context.wrap_socket(client, server_side=True)
                plain = socket.create_connection((LOOPBACK, port))
                for source, target in ((encrypted, plain), (plain, encrypted)):
                    Thread(target=forward, args=(source, target), daemon=True).start()


def forward(source: socket.socket, target: socket.socket) -> None:
    """Copy what arrives until the connection ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    target.close()


@pytest.mark.parametrize(
    ("authority", "host", "problem"),
    [
        ("ours", "localhost", None),
        ("theirs", "localhost", "certificate verify failed"),
        ("ours", "127.0.0.1", 'certificate for "localhost" .*does not match host name "127.0.0.1"'),
        ("missing", "localhost", "root certificate file .* does not exist"),
    ],
)
def test_a_client_accepts_only_the_right_server(
    port: int, folder: Path, authority: str, host: str, problem: str | None
) -> None:
    address = url(host, port).replace(AUTHORITIES, str(folder / f"{authority}.pem"))
    if problem:
        with pytest.raises(psycopg.OperationalError, match=problem):
            psycopg.connect(address)
        return
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("airflow",)


def url(host: str, port: int) -> str:
    """Return the address that the program writes for Airflow's database of this server."""

    async def resolved() -> str:
        output = pulumi.Output.from_input
        access = DatabaseAccess(output(host), output(port), "airflow", "airflow", output("one"), of_region("us-east-1"))
        return str(await access.url.future())

    return asyncio.run(resolved())

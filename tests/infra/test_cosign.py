"""Signatures by the real cosign, with an identity provider and sigstore's certificate authority on this machine.

There is no transparency log: the tests cover the calls of cosign and their results.
"""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from infra.images.errors import ImageError
from ops.images import signing
from ops.images.oci import OciRegistry
from ops.images.registries import copy, signature_tags
from ops.images.signing import provenance, sign_all, verify
from ops.loopback import LOOPBACK
from tests.servers import free_port, wait_for

from .small_image import push

NEEDED = ("cosign", "fulcio")
REQUEST_TOKEN = "of-the-job"

REPOSITORY = "example/team"
COMMIT = "1" * 40
BRANCH = "refs/heads/dev"
WORKFLOW = f"{REPOSITORY}/.github/workflows/release.yaml@{BRANCH}"
SIGNED_BY = r"^https://github\.com/example/team/\.github/workflows/release\.yaml@refs/heads/dev$"
ENVIRONMENT = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": REPOSITORY,
    "GITHUB_REF": BRANCH,
    "GITHUB_SHA": COMMIT,
    "GITHUB_WORKFLOW_REF": WORKFLOW,
    "GITHUB_RUN_ID": "42",
    "GITHUB_RUN_ATTEMPT": "2",
}
# The claims of GitHub about a job: https://docs.github.com/en/actions/reference/security/oidc
CLAIMS = {
    "sub": f"repo:{REPOSITORY}:environment:dev",
    "event_name": "push",
    "job_workflow_ref": WORKFLOW,
    "job_workflow_sha": COMMIT,
    "ref": BRANCH,
    "repository": REPOSITORY,
    "repository_id": "1",
    "repository_owner": "example",
    "repository_owner_id": "2",
    "repository_visibility": "private",
    "run_attempt": "2",
    "run_id": "42",
    "runner_environment": "self-hosted",
    "sha": COMMIT,
    "workflow": "release",
    "workflow_ref": WORKFLOW,
    "workflow_sha": COMMIT,
}


class IdentityProvider(ThreadingHTTPServer):
    """GitHub's identity provider, as far as jobs and a certificate authority use it."""

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), Handler)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        Thread(target=self.serve_forever, daemon=True).start()

    @cached_property
    def issuer(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}"

    def documents(self) -> dict[str, Any]:
        key = json.loads(RSAAlgorithm.to_jwk(self._key.public_key())) | {"kid": "key", "use": "sig", "alg": "RS256"}
        discovery = {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return {"/.well-known/openid-configuration": discovery, "/keys": {"keys": [key]}}

    def token(self, audience: str) -> str:
        now = int(time.time())
        claims = CLAIMS | {"iss": self.issuer, "aud": audience, "iat": now, "nbf": now, "exp": now + 300}
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": "key"})


class Handler(BaseHTTPRequestHandler):
    server: IdentityProvider

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/token" and self.headers["Authorization"] == f"bearer {REQUEST_TOKEN}":
            self.answer({"value": self.server.token(query.rpartition("audience=")[2])})
        elif found := self.server.documents().get(path):
            self.answer(found)
        else:
            self.send_error(403)

    def answer(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Discard the message."""


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"not on PATH: {', '.join(missing)}")
    with IdentityProvider() as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def authority(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Sigstore's certificate authority, which trusts only that provider."""
    folder = tmp_path_factory.mktemp("fulcio")
    issuer = {"IssuerURL": provider.issuer, "ClientID": "sigstore", "Type": "github-workflow"}
    (folder / "config.json").write_text(json.dumps({"OIDCIssuers": {provider.issuer: issuer}}))
    port = free_port()
    options = {
        "ca": "ephemeralca",
        "ct-log-url": "",
        "config-path": folder / "config.json",
        "host": LOOPBACK,
        "port": port,
        "grpc-host": LOOPBACK,
        "grpc-port": free_port(),
        "metrics-port": free_port(),
        "legacy-unix-domain-socket": f"@fulcio-{port}",
    }
    command = ["fulcio", "serve", *(f"--{name}={value}" for name, value in options.items())]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            url = f"http://{LOOPBACK}:{port}"
            wait_for(f"{url}/healthz")
            yield url
        finally:
            server.terminate()


@pytest.fixture
def job(provider: IdentityProvider, authority: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow job whose cosign uses this machine's authority and no log."""
    roots = tmp_path / "roots.pem"
    roots.write_text(httpx.get(f"{authority}/api/v1/rootCert", trust_env=False).raise_for_status().text)
    cosign = {
        "COSIGN_FULCIO_URL": authority,
        "COSIGN_INSECURE_IGNORE_SCT": "true",
        "COSIGN_INSECURE_IGNORE_TLOG": "true",
        "COSIGN_INSECURE_SKIP_VERIFY": "true",
        "COSIGN_TLOG_UPLOAD": "false",
        "SIGSTORE_ROOT_FILE": str(roots),
        "TUF_ROOT": str(tmp_path / "tuf"),
    }
    identity = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{provider.issuer}/token?api-version=2",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": REQUEST_TOKEN,
    }
    for name, value in {**ENVIRONMENT, **identity, **cosign}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(signing, "ISSUER", provider.issuer)


@pytest.fixture
def registry(address: str, tmp_path: Path) -> OciRegistry:
    return OciRegistry(f"{address}/{tmp_path.name}/source")


@pytest.mark.usefixtures("job")
def test_an_image_is_signed_once_and_its_signature_names_the_workflow(registry: OciRegistry, tmp_path: Path) -> None:
    image = push(tmp_path, registry)
    said: list[str] = []
    sign_all(registry, {"ml": image}, said.append)
    signature, attestation = signature_tags(image.digest)
    assert said == [f"ml: wrote {attestation}", f"ml: wrote {signature}"]
    verify(image, SIGNED_BY)
    sign_all(registry, {"ml": image}, said.append)
    assert said[2:] == [f"ml: {attestation} exists", f"ml: {signature} exists"]


@pytest.mark.usefixtures("job")
def test_the_provenance_of_an_image_is_signed_by_the_same_workflow(registry: OciRegistry, tmp_path: Path) -> None:
    image = push(tmp_path, registry)
    sign_all(registry, {"ml": image}, lambda _: None)
    name = f"{image.repository}@{image.digest}"
    asked = ["--type=slsaprovenance1", f"--certificate-identity-regexp={SIGNED_BY}"]
    command = ["cosign", "verify-attestation", *asked, f"--certificate-oidc-issuer={signing.ISSUER}", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    statement = json.loads(base64.b64decode(json.loads(done.stdout)["payload"]))
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [
        {"name": image.repository, "digest": {"sha256": image.digest.removeprefix("sha256:")}}
    ]
    expected = provenance(ENVIRONMENT)
    metadata = expected["runDetails"]["metadata"]
    metadata["invocationID"] = metadata.pop("invocationId")  # as cosign spells it
    assert statement["predicate"] == expected


@pytest.mark.usefixtures("job")
def test_a_signature_is_copied_with_its_image(registry: OciRegistry, address: str, tmp_path: Path) -> None:
    image = push(tmp_path, registry)
    sign_all(registry, {"ml": image}, lambda _: None)
    target = OciRegistry(f"{address}/{tmp_path.name}/target")
    verify(copy(registry, target, image, "ml", lambda _: None), SIGNED_BY)


@pytest.mark.usefixtures("job")
def test_a_signature_by_another_workflow_is_not_accepted(registry: OciRegistry, tmp_path: Path) -> None:
    image = push(tmp_path, registry)
    sign_all(registry, {"ml": image}, lambda _: None)
    other = SIGNED_BY.replace("heads/dev", "heads/feature")
    with pytest.raises(ImageError, match=r"has no signature by .*feature\$ \(.*none of the expected identities"):
        verify(image, other)


@pytest.mark.usefixtures("job")
def test_an_unsigned_image_is_not_accepted(registry: OciRegistry, tmp_path: Path) -> None:
    with pytest.raises(
        ImageError, match=r"has no signature by .* \(no signatures found\): build and sign it with that workflow"
    ):
        verify(push(tmp_path, registry), SIGNED_BY)


@pytest.mark.usefixtures("job")
def test_a_job_without_an_identity_cannot_sign(
    registry: OciRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-another-job")
    with pytest.raises(ImageError, match=r"could not be signed \(.*\): fix the cause, then rerun this command$"):
        sign_all(registry, {"ml": push(tmp_path, registry)}, lambda _: None)

"""Signatures: the calls of cosign and the handling of its results."""

import json
import stat
from pathlib import Path

import pytest

from infra.images.errors import ImageError
from infra.release import ReleasedImage
from ops.aws.account import Account
from ops.images.registries import signature_tags
from ops.images.signing import ISSUER, TOKEN, provenance, sign, sign_all, sign_built, verify
from tests.programs import put_on_path

IMAGE = ReleasedImage(repository="registry.example/ml", tag="0123456789abcdef", digest=f"sha256:{'a' * 64}")
NAME = f"registry.example/ml@{IMAGE.digest}"
SIGNATURE, PROVENANCE = signature_tags(IMAGE.digest)
SIGNED_BY = r"^https://github\.com/example/team/\.github/workflows/release\.yaml@refs/heads/dev$"

WORKFLOW = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "example/team",
    "GITHUB_REF": "refs/heads/dev",
    "GITHUB_SHA": "1" * 40,
    "GITHUB_WORKFLOW_REF": "example/team/.github/workflows/release.yaml@refs/heads/dev",
    "GITHUB_RUN_ID": "42",
    "GITHUB_RUN_ATTEMPT": "2",
}

# A program that records its calls and the content of its input files.
FAKE_COSIGN = """#!/bin/sh
echo "$*" >> "$FAKE_COSIGN/calls"
for word; do case "$word" in *.json) cp "$word" "$FAKE_COSIGN/predicate" ;; esac; done
[ -z "$DOCKER_CONFIG" ] || cp -p "$DOCKER_CONFIG/config.json" "$FAKE_COSIGN/login"
[ ! -e "$FAKE_COSIGN/error" ] || { cat "$FAKE_COSIGN/error" >&2; exit "${FAKE_EXIT_CODE:-1}"; }
"""


@pytest.fixture
def cosign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake cosign in a GitHub workflow."""
    folder = tmp_path / "fake"
    put_on_path(monkeypatch, folder / "cosign", FAKE_COSIGN)
    monkeypatch.setenv("FAKE_COSIGN", str(folder))
    monkeypatch.setenv(TOKEN, "https://token.example")
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    for name, value in WORKFLOW.items():
        monkeypatch.setenv(name, value)
    return folder


def calls(cosign: Path) -> list[str]:
    file = cosign / "calls"
    return file.read_text().splitlines() if file.exists() else []


class FakeRegistry:
    """A registry with some tags, which also has the tags for which cosign was called."""

    def __init__(self, cosign: Path, *there: str, takes: bool = True) -> None:
        self._cosign, self._there, self._takes = cosign, set(there), takes

    def repository(self, image: str) -> str:
        return f"registry.example/{image}"

    def digest(self, _image: str, tag: str) -> str | None:
        verb = {SIGNATURE: "sign", PROVENANCE: "attest"}[tag]
        written = self._takes and any(line.startswith(f"{verb} ") for line in calls(self._cosign))
        return IMAGE.digest if tag in self._there or written else None

    def has_digest(self, _image: str, _digest: str) -> bool:
        return True


def test_an_image_is_signed_by_its_digest_with_the_workflows_identity(cosign: Path) -> None:
    sign(IMAGE)
    assert calls(cosign) == [f"sign --yes {NAME}"]


def test_an_image_gets_a_signature_and_a_provenance(cosign: Path) -> None:
    lines: list[str] = []
    sign_all(FakeRegistry(cosign), {"ml": IMAGE}, lines.append)
    [attesting, signing] = calls(cosign)
    assert signing == f"sign --yes {NAME}"
    assert attesting.startswith("attest --yes --type slsaprovenance1 --predicate /")
    assert attesting.endswith(f"/provenance.json {NAME}")
    assert json.loads((cosign / "predicate").read_text()) == provenance(WORKFLOW)
    assert lines == [f"ml: wrote {PROVENANCE}", f"ml: wrote {SIGNATURE}"]


def test_a_signed_image_is_not_signed_again(cosign: Path) -> None:
    lines: list[str] = []
    sign_all(FakeRegistry(cosign, SIGNATURE), {"ml": IMAGE}, lines.append)
    assert [line.split()[0] for line in calls(cosign)] == ["attest"]
    sign_all(FakeRegistry(cosign, SIGNATURE, PROVENANCE), {"ml": IMAGE}, lines.append)
    assert len(calls(cosign)) == 1
    assert lines[-2:] == [f"ml: {PROVENANCE} exists", f"ml: {SIGNATURE} exists"]


def test_a_cosign_that_stores_signatures_elsewhere_is_reported(cosign: Path) -> None:
    with pytest.raises(
        ImageError, match=rf"^cosign did not write the tag {PROVENANCE} next to {NAME}: install cosign version 2$"
    ):
        sign_all(FakeRegistry(cosign, takes=False), {"ml": IMAGE}, pytest.fail)


def test_the_provenance_names_commit_workflow_and_run() -> None:
    found = provenance(WORKFLOW)
    definition, run = found["buildDefinition"], found["runDetails"]
    assert definition["externalParameters"]["workflow"] == {
        "repository": "https://github.com/example/team",
        "ref": "refs/heads/dev",
        "path": ".github/workflows/release.yaml",
    }
    assert definition["resolvedDependencies"] == [
        {"uri": "git+https://github.com/example/team@refs/heads/dev", "digest": {"gitCommit": "1" * 40}}
    ]
    assert run["builder"]["id"] == "https://github.com/example/team/.github/workflows/release.yaml@refs/heads/dev"
    assert run["metadata"]["invocationId"] == "https://github.com/example/team/actions/runs/42/attempts/2"


def test_images_are_signed_only_in_a_workflow(cosign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN)
    with pytest.raises(ImageError, match=r"^there is no identity to sign with: sign images in a GitHub workflow whose"):
        sign(IMAGE)
    assert calls(cosign) == []


def test_a_signature_is_accepted_only_from_the_required_identity(cosign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN)  # publicly readable
    verify(IMAGE, SIGNED_BY)
    assert calls(cosign) == [
        f"verify --certificate-identity-regexp {SIGNED_BY} --certificate-oidc-issuer {ISSUER} {NAME}"
    ]


@pytest.mark.parametrize(
    ("code", "errors", "reason"),
    [
        (
            10,
            "Error: no signatures found\nmain.go:69: error during command execution: no signatures found\n",
            "no signatures found",
        ),
        (
            12,
            "WARNING: x\nError: no matching signatures: none of the\n expected identities matched\n"
            "error during command execution: no matching signatures: none of the\n expected identities matched\n",
            "no matching signatures: none of the expected identities matched",
        ),
    ],
)
def test_an_image_without_the_signature_is_refused_with_cosigns_reason(
    cosign: Path, code: int, errors: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cosign / "error").write_text(errors)
    monkeypatch.setenv("FAKE_EXIT_CODE", str(code))
    with pytest.raises(ImageError) as caught:
        verify(IMAGE, SIGNED_BY)
    assert str(caught.value) == (
        f"{NAME} has no signature by {SIGNED_BY} ({reason}): build and sign it with that workflow, or correct "
        "airflow:release.signed_by"
    )


@pytest.mark.parametrize(
    ("errors", "reason"),
    [("Error: no such host\n", "no such host"), ("killed\n", "killed"), ("", "no error message")],
)
def test_a_signature_that_cannot_be_read_is_not_treated_as_missing(cosign: Path, errors: str, reason: str) -> None:
    (cosign / "error").write_text(errors)
    with pytest.raises(ImageError) as caught:
        verify(IMAGE, SIGNED_BY)
    assert str(caught.value) == (
        f"the signature of {NAME} cannot be verified ({reason}): check that this machine reaches the registry and "
        "https://tuf-repo-cdn.sigstore.dev"
    )


def test_a_failed_provenance_stops_before_the_signature_that_implies_both(cosign: Path) -> None:
    (cosign / "error").write_text("Error: getting signer: no route\n")
    with pytest.raises(
        ImageError, match=rf"^the provenance of {NAME} could not be signed \(getting signer: no route\)"
    ):
        sign_all(FakeRegistry(cosign), {"ml": IMAGE}, pytest.fail)
    assert [line.split()[0] for line in calls(cosign)] == ["attest"]
    with pytest.raises(
        ImageError, match=rf"^{NAME} could not be signed \(getting signer: no route\): fix the cause, then"
    ):
        sign(IMAGE)


def test_the_images_that_this_run_built_are_signed(cosign: Path) -> None:
    lines: list[str] = []
    sign_built(FakeRegistry(cosign), {"ml": IMAGE}, lambda: {"ml": IMAGE}, lines.append)
    assert [line.split()[0] for line in calls(cosign)] == ["attest", "sign"]


def test_an_existing_image_is_not_signed_but_must_have_this_workflows_signature(cosign: Path) -> None:
    lines: list[str] = []
    sign_built(FakeRegistry(cosign), {}, lambda: {"ml": IMAGE}, lines.append)
    assert calls(cosign) == [
        f"verify --certificate-identity-regexp {SIGNED_BY} --certificate-oidc-issuer {ISSUER} {NAME}"
    ]
    assert lines == ["ml: already signed by this workflow"]


def test_an_existing_image_without_the_signature_is_refused(cosign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cosign / "error").write_text("Error: no signatures found\n")
    monkeypatch.setenv("FAKE_EXIT_CODE", "10")
    with pytest.raises(
        ImageError,
        match=r"^ml was not built by this run and has no valid signature: .* has no signature by",
    ):
        sign_built(FakeRegistry(cosign), {}, lambda: {"ml": IMAGE}, pytest.fail)
    assert [line.split()[0] for line in calls(cosign)] == ["verify"]


def test_a_tag_of_an_image_that_this_run_did_not_build_is_refused(cosign: Path) -> None:
    other = IMAGE.model_copy(update={"digest": f"sha256:{'b' * 64}"})
    with pytest.raises(ImageError, match=rf"is now {other.digest}, but this run built {IMAGE.digest}"):
        sign_built(FakeRegistry(cosign, SIGNATURE, PROVENANCE), {"ml": IMAGE}, lambda: {"ml": other}, lambda _: None)
    assert calls(cosign) == []


def test_an_image_built_for_another_repository_is_not_signed(cosign: Path) -> None:
    other = IMAGE.model_copy(update={"repository": "registry.example/previews/ml"})
    with pytest.raises(
        ImageError, match=r"^ml was built for registry.example/previews/ml, not for registry.example/ml$"
    ):
        sign_built(FakeRegistry(cosign), {"ml": other}, dict, pytest.fail)
    assert calls(cosign) == []


def test_ecr_has_its_own_login(account: Account, cosign: Path) -> None:
    host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    verify(IMAGE.model_copy(update={"repository": f"{host}/airflow-dev/ml"}), SIGNED_BY)
    [token] = account.client("ecr").get_authorization_token()["authorizationData"]
    login = cosign / "login"
    assert json.loads(login.read_text()) == {"auths": {host: {"auth": token["authorizationToken"]}}}
    assert stat.S_IMODE(login.stat().st_mode) == 0o600


def test_without_cosign_the_error_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ImageError, match=r"^cosign, which signs images and verifies signatures, is not on PATH: install "
    ):
        verify(IMAGE, SIGNED_BY)

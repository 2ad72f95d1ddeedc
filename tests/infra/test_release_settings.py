"""The promotion chain of stacks and the rules for release settings."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.documents import REPOSITORY
from infra.settings import PROJECT, SettingsError, load
from infra.settings.loading import stack_summaries
from infra.settings.stack_summaries import StackSummaries, StackSummary, chain, lineage

IDENTITY = r"^https://github\.com/example/team/\.github/workflows/release\.yaml@refs/heads/dev$"


def config_of(stack: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key.removeprefix(f"{PROJECT}:"): value for key, value in found.items()}


@pytest.fixture
def stacks() -> dict[str, dict[str, Any]]:
    """The settings of the repository's stacks, which a test changes and writes."""
    return {stack: config_of(stack) for stack in ("dev", "staging", "prod", "local")}


def write(folder: Path, stacks: dict[str, dict[str, Any]]) -> None:
    for stack, config in stacks.items():
        keyed = {key if ":" in key else f"{PROJECT}:{key}": value for key, value in config.items()}
        (folder / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump({"config": keyed}))


def refusal(folder: Path, stack: str, stacks: dict[str, dict[str, Any]]) -> str:
    write(folder, stacks)
    with pytest.raises(SettingsError) as caught:
        load(stack, folder)
    return str(caught.value)


def on_clusters(**releases: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return stacks on existing clusters that follow branches with their names."""
    return {
        stack: config_of("local")
        | {
            "dags": {"repository": "git@example.com:team/dags.git", "branch": stack, "credentials": "ssh"}
            | {"known_hosts": "example.com ssh-ed25519 AAAA"},
            "registry": f"registry.example.com/{stack}",
        }
        | ({} if release is None else {"release": release})
        for stack, release in releases.items()
    }


def test_releases_pass_from_dev_to_staging_to_prod() -> None:
    assert list(lineage("prod", stack_summaries())) == ["prod", "staging", "dev"]
    assert set(chain("staging", stack_summaries())) >= {"dev", "prod", "staging"}
    assert chain("local", stack_summaries()) == ["local"]


def test_prod_has_more_gates_than_staging() -> None:
    staging, prod = (load(stack).release for stack in ("staging", "prod"))
    assert staging
    assert prod
    assert prod.gates.plan_review
    assert not staging.gates.plan_review
    assert prod.gates.soak_hours == 24 > staging.gates.soak_hours > 0


def test_stacks_on_existing_clusters_have_releases_too(tmp_path: Path) -> None:
    write(tmp_path, on_clusters(first={}, second={"after": "first", "signed_by": IDENTITY}))
    assert load("second", tmp_path).release


def test_two_stacks_may_follow_the_same_stack(tmp_path: Path) -> None:
    write(tmp_path, on_clusters(first={}, left={"after": "first"}, right={"after": "first"}, alone={}))
    for stack in ("first", "left", "right", "alone"):
        load(stack, tmp_path)
    assert sorted(chain("left", stack_summaries(tmp_path))) == ["first", "left", "right"]
    assert chain("alone", stack_summaries(tmp_path)) == ["alone"]


@pytest.mark.parametrize("key", ["dags", "registry"])
def test_releases_require_a_repository_and_a_registry(tmp_path: Path, key: str) -> None:
    stacks = on_clusters(first={})
    del stacks["first"][key]
    assert refusal(tmp_path, "first", stacks) == (
        f"Pulumi.first.yaml: airflow:{key}: required for a stack with releases: set your own repository and registry"
    )


@pytest.mark.parametrize("key", ["dags", "registry"])
def test_without_releases_a_repository_and_a_registry_are_independent(tmp_path: Path, key: str) -> None:
    stacks = on_clusters(alone=None)
    del stacks["alone"][key]
    write(tmp_path, stacks)
    load("alone", tmp_path)


@pytest.mark.parametrize(
    ("releases", "sentence"),
    [
        ({"last": {"after": "last"}}, "last cannot come after itself: name the previous stack"),
        (
            {"first": {}, "last": {"after": "qa"}},
            "there is no stack qa: choose one that has releases, such as first",
        ),
        ({"last": {"after": "qa"}}, "there is no stack qa: choose one that has releases"),
        (
            {"other": None, "last": {"after": "other"}},
            "other has no releases: add airflow:release to its settings, or name another stack",
        ),
        (
            {"first": {"after": "last"}, "last": {"after": "first"}},
            "last after first after last never reaches a first stack: correct after in one of them",
        ),
        (
            {"one": {"after": "two"}, "two": {"after": "one"}, "last": {"after": "one"}},
            "last after one after two after one never reaches a first stack: correct after in one of them",
        ),
        (
            {"first": {"after": "gone"}, "last": {"after": "first"}},
            "last after first after gone never reaches a first stack: correct after in one of them",
        ),
    ],
)
def test_releases_come_from_a_stack_that_has_them(
    tmp_path: Path, releases: dict[str, dict[str, Any] | None], sentence: str
) -> None:
    assert refusal(tmp_path, "last", on_clusters(**releases)) == (
        f"Pulumi.last.yaml: airflow:release.after: {sentence}"
    )


@pytest.mark.parametrize("release", [{"signed_by": IDENTITY}, {"gates": {"soak_hours": 1}}])
def test_the_first_stack_has_no_gates(tmp_path: Path, release: dict[str, Any]) -> None:
    assert refusal(tmp_path, "first", on_clusters(first=release)).startswith(
        "Pulumi.first.yaml: airflow:release: nothing is promoted to the first stack, so gates and signed_by do not "
    )


def test_releases_stay_in_one_repository(tmp_path: Path) -> None:
    stacks = on_clusters(first={}, last={"after": "first"})
    stacks["last"]["dags"] = {"repository": "https://example.com/team/other", "branch": "last"}
    assert refusal(tmp_path, "last", stacks) == (
        "Pulumi.last.yaml: airflow:dags.repository: example.com/team/other is not the repository of first, "
        "example.com/team/dags: releases move between branches of one repository, so use the same in both"
    )
    stacks["last"]["dags"] = {"repository": "https://example.com/team/dags.git", "branch": "last"}
    write(tmp_path, stacks)
    load("last", tmp_path)


def test_the_stacks_of_a_chain_have_different_branches(tmp_path: Path) -> None:
    stacks = on_clusters(first={}, last={"after": "first"})
    stacks["last"]["dags"]["branch"] = "first"
    assert "airflow:dags.branch: Pulumi.first.yaml also follows first of example.com/team/dags: " in refusal(
        tmp_path, "last", stacks
    )


@pytest.mark.parametrize("of", ["dev", "prod"])
def test_all_stacks_of_a_chain_have_the_same_architecture(
    tmp_path: Path, stacks: dict[str, dict[str, Any]], of: str
) -> None:
    for pool in stacks[of]["node_pools"].values():
        pool["architecture"] = "arm64"
    stacks[of]["node_pools"]["cpu"]["instance_families"] = ["m7g"]
    stacks[of]["node_pools"]["gpu"]["instance_families"] = ["g5g"]
    own, other = ("amd64", "arm64")
    assert refusal(tmp_path, "staging", stacks) == (
        f"Pulumi.staging.yaml: airflow:node_pools.cpu.architecture: {own} differs from {of}, {other}: use one "
        "architecture, because both run the same images"
    )
    stacks["qa"] = copy.deepcopy(stacks[of]) | {"release": {}}
    stacks["qa"]["network"]["cidr"] = "10.90.0.0/16"
    stacks["qa"]["dags"]["branch"] = "qa"
    write(tmp_path, stacks)
    load("qa", tmp_path)  # a separate chain


@pytest.mark.parametrize(
    ("signed_by", "sentence"),
    [
        (
            "^https://(github$",
            "is not a valid regular expression (missing ), unterminated subpattern at position 9): correct it",
        ),
        (IDENTITY[1:], "also matches identities that only contain it: start it with ^ and end it with $"),
        (IDENTITY[:-1], "also matches identities that only contain it: start it with ^ and end it with $"),
    ],
)
def test_the_signers_identity_is_an_anchored_regular_expression(tmp_path: Path, signed_by: str, sentence: str) -> None:
    stacks = on_clusters(first={}, last={"after": "first", "signed_by": signed_by})
    assert refusal(tmp_path, "last", stacks) == f"Pulumi.last.yaml: airflow:release.signed_by: {signed_by!r} {sentence}"


@pytest.mark.parametrize(
    ("dags", "sentence"),
    [
        ({"repository": "https://me:secret@example.com/dags.git"}, "dags.repository: the address contains a user name"),
        ({"repository": "ssh://git@example.com/dags.git"}, "dags.credentials: ssh://git@example.com/dags.git is an "),
    ],
)
def test_the_same_rules_apply_to_repositories_of_existing_clusters(
    tmp_path: Path, dags: dict[str, str], sentence: str
) -> None:
    stacks = on_clusters(alone=None)
    stacks["alone"]["dags"] = {"branch": "alone", **dags}
    assert refusal(tmp_path, "alone", stacks).startswith(f"Pulumi.alone.yaml: airflow:{sentence}")


@pytest.mark.parametrize("release", [["dev"], {"after": ["dev"]}, {"after": 3}])
def test_a_broken_section_of_another_stack_does_not_stop_this_one(
    tmp_path: Path, stacks: dict[str, dict[str, Any]], release: Any
) -> None:
    stacks["qa"] = {"release": release, "network": {"cidr": ["x"]}, "dags": {"repository": "http://[", "branch": "x"}}
    write(tmp_path, stacks)
    assert load("staging", tmp_path) == load("staging")


def test_a_cycle_ends_where_it_closes() -> None:
    circle: StackSummaries = {
        name: StackSummary(has_releases=True, after=after) for name, after in {"a": "b", "b": "a"}.items()
    }
    assert list(lineage("a", circle)) == ["a", "b"]

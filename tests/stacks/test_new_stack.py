import shutil
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.settings import load_aws
from ops.pulumi.new_stack import free_network, text_like, write_stack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for stack in ("dev", "local", "staging", "prod"):
        shutil.copy(REPOSITORY / f"Pulumi.{stack}.yaml", tmp_path)
    return tmp_path


def test_a_new_stack_copies_the_settings_except_network_and_branch(folder: Path) -> None:
    assert write_stack("qa", "staging", folder) == [folder / "Pulumi.qa.yaml"]
    made, copied = load_aws("qa", folder), load_aws("staging", folder)
    assert made.model_copy(update={"network": copied.network, "dags": copied.dags}) == copied
    assert made.dags == copied.dags.model_copy(update={"branch": "qa"})
    assert not any(
        made.network.cidr.overlaps(load_aws(name, folder).network.cidr) for name in ("dev", "staging", "prod")
    )


def test_a_new_stack_copies_the_helm_values_of_its_model(folder: Path) -> None:
    (folder / "helm-values").mkdir()
    (folder / "helm-values" / "airflow-prod.yaml").write_text("scheduler: {replicas: 2}\n")
    values = folder / "helm-values" / "airflow-qa.yaml"
    assert write_stack("qa", "prod", folder) == [folder / "Pulumi.qa.yaml", values]
    assert values.read_text() == "scheduler: {replicas: 2}\n"


def test_the_key_of_the_copied_stack_is_not_copied() -> None:
    text = "secretsprovider: awskms://alias/x\nencryptedkey: abc\nconfig:\n  airflow:network:\n    cidr: 10.1.0.0/16\n"
    made = yaml.safe_load(text_like(text, "qa", "dev", IPv4Network("10.40.0.0/16")))
    assert made == {"config": {"airflow:network": {"cidr": "10.40.0.0/16"}}}


def test_the_editors_schema_stays_the_first_line(folder: Path) -> None:
    (file,) = write_stack("qa", "dev", folder)
    lines = file.read_text().splitlines()
    assert lines[0].startswith("# yaml-language-server: $schema=")
    assert lines[1:3] == ["# Based on Pulumi.dev.yaml.", "config:"]


def test_a_network_is_chosen_that_overlaps_no_other() -> None:
    assert free_network([]) == IPv4Network("10.10.0.0/16")
    assert free_network([IPv4Network("10.10.0.0/20"), IPv4Network("10.16.0.0/12")]) == IPv4Network("10.40.0.0/16")


@pytest.mark.parametrize("name", ["Qa", "1a", "a", "a_b", "a-", "../x", "a-name-that-is-too-long"])
def test_an_invalid_name_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(OperationError, match="is not a valid stack name: use 2 to 16 lower-case let"):
        write_stack(name, "dev", folder)


def test_an_existing_stack_is_not_overwritten(folder: Path) -> None:
    before = (folder / "Pulumi.prod.yaml").read_text()
    with pytest.raises(OperationError, match=r"^Pulumi.prod.yaml already exists: choose another"):
        write_stack("prod", "dev", folder)
    assert (folder / "Pulumi.prod.yaml").read_text() == before


def test_a_missing_stack_to_copy_is_refused(folder: Path) -> None:
    with pytest.raises(OperationError, match="no stack nope to copy: set LIKE to one of dev, local, prod, staging"):
        write_stack("qa", "nope", folder)
    assert not (folder / "Pulumi.qa.yaml").exists()


def test_an_invalid_new_stack_is_not_left_behind(folder: Path) -> None:
    file = folder / "Pulumi.dev.yaml"
    file.write_text(file.read_text().replace("multi_az", "multi_azz"))
    with pytest.raises(OperationError, match=r"(?s)^qa cannot be based on Pulumi.dev.yaml: .*multi_azz"):
        write_stack("qa", "dev", folder)
    assert not (folder / "Pulumi.qa.yaml").exists()

"""On AWS, every client of the database verifies the server's certificate and name."""

from typing import Any

import pytest

from infra.aws.certificates import of_region
from ops.plan.manifests import Object

from .conftest import all_pods, containers, of_kind, stack_objects

Objects = tuple[Object, ...]

ON_AWS = ("dev", "staging", "prod")
FILE = "/etc/database-ca/ca.pem"
VERIFIED = f"sslmode=verify-full&sslrootcert={FILE}"


@pytest.mark.parametrize("stack", ON_AWS)
def test_every_address_of_the_database_asks_clients_to_verify_the_server(stack: str) -> None:
    secrets = of_kind(stack_objects(stack), "Secret")
    addresses = [
        value
        for secret in secrets.values()
        for value in secret["stringData"].values()
        if "rds.amazonaws.com" in value and "://" in value
    ]
    # With a connection pool, only MLflow, tasks and model servers connect by themselves.
    assert len(addresses) == (3 if stack == "prod" else 7)
    assert all(VERIFIED in address for address in addresses)
    for secret in secrets.values():
        if "PGHOST" in secret["stringData"]:
            assert (secret["stringData"]["PGSSLMODE"], secret["stringData"]["PGSSLROOTCERT"]) == ("verify-full", FILE)
            assert secret["stringData"]["ca.pem"] == of_region("us-east-1")


@pytest.mark.parametrize("stack", ON_AWS)
def test_every_pod_that_connects_has_the_certificate_authorities(stack: str) -> None:
    objects = stack_objects(stack)
    configs = [item for item in objects if item["kind"] == "ConfigMap" and item["metadata"]["name"] == "database-ca"]
    assert {item["metadata"]["namespace"] for item in configs} == {"airflow", "airflow-tasks"}
    assert all(item["data"] == {"ca.pem": of_region("us-east-1")} for item in configs)
    names = [name for name, pod in all_pods(objects) if connects(pod)]
    assert len(names) >= 10
    for name, pod in all_pods(objects):
        if name in names:
            assert any(volume["name"] == "database-ca" for volume in pod["volumes"]), name
            for container in containers(pod):
                if container["name"] not in ("git-sync", "git-sync-init", "dags-server", "metrics-exporter"):
                    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
                    assert "/etc/database-ca" in mounts, (name, container["name"])


def connects(pod: Any) -> bool:
    """Return whether a pod has an address or a login of the database."""
    sources = [str(container.get("env", [])) + str(container.get("envFrom", [])) for container in containers(pod)]
    wanted = ("-database", "create-", "SQL_ALCHEMY_CONN_CMD")
    pool = any(container["name"] == "pgbouncer" for container in containers(pod))
    return pool or any(word in source for source in sources for word in wanted)


def test_in_the_cluster_the_connection_is_not_encrypted_and_needs_no_authorities() -> None:
    objects = stack_objects("local")
    secrets = of_kind(objects, "Secret")
    assert secrets["airflow-database"]["stringData"]["connection"].endswith("?sslmode=disable")
    assert "database-ca" not in of_kind(objects, "ConfigMap")

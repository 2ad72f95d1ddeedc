import pytest

from infra import helm_values
from infra.airflow.pgbouncer import configuration
from infra.database_connections import available_connections, class_for, of_preview, of_stack, why_no_room
from infra.settings import SettingsError, load
from ops.plan.connections import connections

VALUES = {"scheduler": {"replicas": 1}}


@pytest.mark.parametrize(
    ("instance_class", "observed"), [("db.t4g.micro", 85), ("db.t4g.small", 181), ("db.m7g.large", 832)]
)
def test_the_estimate_is_close_to_an_observed_maximum_and_never_above(instance_class: str, observed: int) -> None:
    usable = observed - 5
    assert usable * 0.98 <= available_connections(instance_class) <= usable


def test_more_memory_allows_more_connections_up_to_a_maximum() -> None:
    classes = ["db.t3.medium", "db.t3.large", "db.r7g.large", "db.m7g.2xlarge", "db.m7g.12xlarge"]
    counts = [available_connections(one) for one in classes]
    assert counts == sorted(set(counts))
    assert counts[-1] == available_connections("db.r7g.16xlarge") == 4995


def test_the_smallest_class_of_a_family_that_fits_is_named() -> None:
    assert class_for(100, "db.t4g.micro") == "db.t4g.small"
    assert class_for(100, "db.m7g.large") == "db.m7g.large"
    assert class_for(2000, "db.m7g.large") == "db.m7g.2xlarge"
    assert class_for(5000, "db.m7g.large") is None


def test_replicas_open_connections_unless_pgbouncer_does_for_them() -> None:
    one = of_stack(VALUES)
    two = of_stack({"scheduler": {"replicas": 2}, "apiServer": {"replicas": 2}})
    assert two == one | {"scheduler": 2 * one["scheduler"], "api-server": 2 * one["api-server"]}
    pooled = of_stack({"pgbouncer": {"enabled": True, "replicas": 2}, "scheduler": {"replicas": 9}})
    assert pooled["PgBouncer"] == 2 * (14 + 3 + 3)
    assert pooled.keys() - one.keys() == {"PgBouncer"}
    assert "pool_size=14" in configuration("h", 5432, "d", "o", [], "disable")


def test_a_stack_that_opens_too_many_connections_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    values = helm_values.stack_values("dev") | {"apiServer": {"replicas": 2}}
    monkeypatch.setattr(helm_values, "stack_values", lambda _: values)
    refusal = (
        r"^Pulumi\.dev\.yaml: airflow:database\.instance_class: db\.t4g\.micro allows 80 connections, but the stack "
        r"opens up to 100 \(scheduler 6, api-server 40, .*\): choose db\.t4g\.small$"
    )
    with pytest.raises(SettingsError, match=refusal):
        load("dev")


def test_a_preview_environment_that_does_not_fit_is_refused() -> None:
    free = available_connections("db.t4g.small") - sum(of_stack(VALUES).values())
    assert free // of_preview() == 1
    assert why_no_room("dev", "db.t4g.small", VALUES, [], "dev-a") is None
    assert why_no_room("dev", "db.t4g.small", VALUES, ["dev-a"], "dev-b") == (
        "dev's database, db.t4g.small, allows 176 connections, but dev opens up to 80 and each preview environment up "
        "to 63 (dev-a), which leaves no room for dev-b: remove one that `make preview-envs STACK=dev` lists, or set "
        "airflow:database: instance_class to db.t4g.medium in Pulumi.dev.yaml and run `make deploy STACK=dev`"
    )


def test_the_plan_shows_the_connections_and_the_room_for_preview_environments() -> None:
    line = connections("dev", "db.t4g.medium")
    assert line.startswith("allows 401 connections; dev opens up to 80: scheduler 6, api-server 20, dag-processor 10,")
    assert line.endswith("; room for 5 preview environments of up to 63")
    assert "room" not in connections("prod", "db.m7g.large")

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from kubernetes.client import ApiClient

from infra.airflow_names import DATABASE_SETUP_LABELS
from infra.errors import OperationError
from ops.console import Echo
from ops.kubernetes import jobs
from ops.kubernetes.cluster import ConflictError, NotFoundError
from ops.kubernetes.diagnosis import Namespace
from ops.releases import rehearsal
from ops.releases.rehearsal import Contents, difference, reason, rehearse_on, report, seconds
from ops.releases.rehearsal_jobs import drop
from ops.releases.rehearsal_jobs import rehearsal as rehearsal_job
from ops.stacks.aws_stack import AwsStack
from ops.stacks.platform_stack import DatabaseServer, PlatformStack
from ops.stacks.resolve import stack_with
from tests.filled_settings import load_filled
from tests.releases.records import a_release

IMAGE = f"registry.example/airflow:abc@sha256:{'0' * 64}"
SERVER = DatabaseServer("airflow-platform", "create-airflow-1a2b", "postgres:17", 999)
DISK_BYTES = 8 * 2**30
REVISIONS = {"alembic_version": "9a", "mlflow": "dc"}
JOBS: list[dict[str, Any]] = [
    ApiClient().sanitize_for_serialization(job)
    for job in (rehearsal_job(SERVER, DISK_BYTES, "rehearsal_01", IMAGE), drop(SERVER, "rehearsal_01"))
]
BEFORE = "size 3145728\nrevision alembic_version 4f\nrows dag_run 12\nrows variable 3\n"
AFTER = "revision alembic_version 9a\nrows dag_run 12\nrows variable 3\n"
CONTAINERS = ("copy", "migrate", "count")


def containers(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    pod = job["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]]


def migration() -> dict[str, Any]:
    [found] = [one for one in containers(JOBS[0]) if one["image"] == IMAGE]
    return found


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
def test_the_pods_obey_pod_security_restricted_and_write_nowhere_but_to_tmp(job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in containers(job):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context.get("runAsUser") != 0
        writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        assert writable == ["/tmp"]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
def test_the_pods_verify_the_server_if_the_stack_does(job: dict[str, Any]) -> None:
    volumes = job["spec"]["template"]["spec"]["volumes"]
    [authorities] = [volume["secret"] for volume in volumes if "secret" in volume]
    # Not the rest of the Secret, which has the administrator's password.
    assert authorities["items"] == [{"key": "ca.pem", "path": "ca.pem"}]
    assert authorities["optional"] is True
    for container in containers(job):
        assert {"/etc/database-ca"} <= {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
def test_a_job_is_tried_once_ends_in_time_and_asks_for_what_it_needs(job: dict[str, Any]) -> None:
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert 0 < job["spec"]["activeDeadlineSeconds"] <= 3600
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    for container in containers(job):
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
def test_network_policies_let_the_pods_reach_the_server_by_their_labels(job: dict[str, Any]) -> None:
    assert job["spec"]["template"]["metadata"]["labels"].items() >= DATABASE_SETUP_LABELS.items()


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
def test_a_password_comes_from_the_secret_alone(job: dict[str, Any]) -> None:
    for container in containers(job):
        for variable in container["env"]:
            if "PASSWORD" in variable["name"]:
                given = variable.get("value", "$(DATABASE_PASSWORD)"), variable.get("valueFrom")
                assert given[0] == "$(DATABASE_PASSWORD)"
        assert "PASSWORD" not in " ".join(container["command"]) or container["command"][:2] == ["sh", "-c"]


def test_the_release_runs_as_itself_with_the_rights_of_the_owner_and_not_of_the_administrator() -> None:
    found = migration()
    assert found["command"] == ["python", "/opt/airflow/bin/prepare_database.py"]
    assert found["securityContext"]["runAsUser"] == 50000
    assert "envFrom" not in found
    keys = [one["valueFrom"]["secretKeyRef"]["key"] for one in found["env"] if "valueFrom" in one]
    assert "DATABASE_PASSWORD" in keys
    assert {"PGUSER", "PGPASSWORD"}.isdisjoint(keys)


def test_the_release_works_on_the_copy_and_not_on_the_database() -> None:
    variables = {one["name"]: one.get("value") for one in migration()["env"]}
    assert variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == (
        "postgresql://$(DATABASE_NAME):$(DATABASE_PASSWORD)@$(PGHOST):$(PGPORT)/rehearsal_01?sslmode=$(PGSSLMODE)"
        "&sslrootcert=/etc/database-ca/ca.pem"
    )
    # Kubernetes expands only variables that are defined earlier.
    names = [one["name"] for one in migration()["env"]]
    assert names.index("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN") > max(map(names.index, ("PGHOST", "PGPORT", "PGSSLMODE")))


def test_the_output_of_the_scripts_is_parsed() -> None:
    assert Contents.of("NOTICE: something\n" + BEFORE) == Contents(
        {"alembic_version": "4f"}, {"dag_run": 12, "variable": 3}, 3145728
    )


def test_a_copy_that_matches_the_record_is_accepted() -> None:
    assert difference(Contents.of(BEFORE), Contents.of(AFTER), REVISIONS) is None


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        (BEFORE, "the migrated copy is at alembic_version 4f, but the release's record says 9a"),
        (AFTER.replace("revision", "nothing"), "the migrated copy is at alembic_version none, but the release's"),
        (AFTER.replace("dag_run 12", "dag_run 10"), "the migration loses rows: dag_run from 12 to 10"),
        (AFTER.replace("rows variable 3\n", ""), "the migration loses rows: variable from 3 to 0"),
    ],
)
def test_a_copy_that_differs_from_the_record_is_an_error(after: str, sentence: str) -> None:
    assert str(difference(Contents.of(BEFORE), Contents.of(after), REVISIONS)).startswith(sentence)


def ended(code: int, why: str = "Error") -> dict[str, Any]:
    return {"state": {"terminated": {"exitCode": code, "reason": why}}}


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (
            "Traceback:\nsqlalchemy.exc.DataError: no\n(Background on this error at: x)\n",
            "sqlalchemy.exc.DataError: no",
        ),
        ("starting\npsql: error: no route to host\n\n", "psql: error: no route to host"),
        ("", "it logged nothing"),
    ],
)
def test_the_reason_is_the_line_with_the_error(log: str, why: str) -> None:
    assert reason(ended(1), log) == why


def test_a_container_that_exceeds_its_memory_limit_is_explained() -> None:
    assert reason(ended(137, "OOMKilled"), "Killed") == "it exceeded its memory limit"


def test_the_report_has_seconds_size_and_rows() -> None:
    state = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:12Z", "exitCode": 0}
    pod = {"status": {"initContainerStatuses": [{"name": "migrate", "state": {"terminated": state}}]}}
    assert report(seconds(pod, "migrate"), Contents.of(BEFORE)) == (
        "the migration took 72 s on a copy of 3 MiB and kept all 15 rows of 2 tables"
    )


# A pod of the same namespace that does not belong to the rehearsal.
NEIGHBOUR = {
    "metadata": {"name": "git-0", "uid": "git-0"},
    "spec": {"containers": []},
    "status": {
        "phase": "Failed",
        "containerStatuses": [
            {"name": "git", "restartCount": 3, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}
        ],
    },
}


class FakeCluster:
    """A cluster whose Jobs end at the first poll; `fails` names the container that ends with an error."""

    context = "kind-test"

    def __init__(self, fails: str | None = None, after: str = AFTER) -> None:
        self.fails = fails
        self.logs = {
            "copy": BEFORE,
            "migrate": "INFO\nalembic.util.exc.CommandError: no such revision\n",
            "count": after,
        }
        self.jobs: dict[str, dict[str, Any]] = {}
        self.created: list[str] = []
        self.interrupt: Callable[[], None] = lambda: None

    def get(self, kind: str, name: str, _: str, version: str) -> Mapping[str, Any] | None:
        assert (kind, version) == ("Job", "batch/v1")
        return self.jobs.get(name)

    def create(self, _: str, manifest: Mapping[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        if name in self.jobs:
            raise ConflictError
        self.jobs[name] = {**manifest, "status": {}}
        self.created.append(name)

    def delete(self, kind: str, name: str, _: str, options: Mapping[str, Any], version: str) -> None:
        assert (kind, version, options) == ("Job", "batch/v1", {"propagationPolicy": "Foreground"})
        if name not in self.jobs:
            raise NotFoundError
        del self.jobs[name]

    def objects(self, kind: str, _: str, labels: str) -> list[Mapping[str, Any]]:
        assert kind == "Pod"
        if "rehearsal" in self.jobs:
            self.interrupt()
        name, value = labels.split("=")
        return [pod for pod in self.namespace("").pods if pod["metadata"].get("labels", {}).get(name) == value]

    def namespace(self, _: str) -> Namespace:
        return Namespace(pods=[NEIGHBOUR, *(self.pod(name) for name in self.jobs)])

    def pod(self, name: str) -> dict[str, Any]:
        names = CONTAINERS if name == "rehearsal" else ("drop",)
        times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:02Z"}
        statuses = []
        for container in names:
            failed = container == self.fails
            code = {"exitCode": int(failed), "reason": "Error" if failed else "Completed"}
            statuses.append({"name": container, "state": {"terminated": {**times, **code}}})
            if failed:
                break
        return {
            "metadata": {"name": f"{name}-x", "uid": name, "labels": {jobs.JOB_LABEL: name}},
            "spec": {"containers": []},
            "status": {"phase": "Failed" if self.fails in names else "Succeeded", "initContainerStatuses": statuses},
        }

    def log(self, _: str, __: str, container: str) -> str:
        return self.logs.get(container, "")


def stack_in(cluster: object, name: str, echo: Echo = pytest.fail) -> PlatformStack:
    """Return a stack whose cluster is fake."""
    stack = stack_with(name, load_filled(name), echo)
    vars(stack)["cluster"] = cluster
    return stack


def rehearse(cluster: FakeCluster) -> list[str]:
    said: list[str] = []
    try:
        rehearse_on(stack_in(cluster, "staging", said.append), SERVER, DISK_BYTES, IMAGE, REVISIONS)
    finally:
        assert cluster.jobs == {} or cluster.fails == "drop"
        assert cluster.created == ["rehearsal", "rehearsal-drop"]
    return said


def test_each_step_and_the_report_are_printed_and_the_copy_is_dropped() -> None:
    assert rehearse(FakeCluster()) == [
        "copying the database",
        "migrating the copy",
        "counting its rows",
        "the migration took 2 s on a copy of 3 MiB and kept all 15 rows of 2 tables",
        "dropping the copy",
    ]


@pytest.mark.parametrize(
    ("fails", "sentence"),
    [
        ("copy", "^the database cannot be copied: rows variable 3$"),
        (
            "migrate",
            "^the migration failed on a copy of the database: alembic.util.exc.CommandError: no such revision$",
        ),
        ("count", "^the migrated copy cannot be read: "),
    ],
)
def test_a_failure_is_shown_by_its_last_line_and_the_copy_is_dropped(fails: str, sentence: str) -> None:
    with pytest.raises(OperationError, match=sentence):
        rehearse(FakeCluster(fails))


def test_a_migration_to_another_revision_fails_and_the_copy_is_dropped() -> None:
    with pytest.raises(OperationError, match=r"^the migrated copy is at alembic_version 4f"):
        rehearse(FakeCluster(after=BEFORE))


def test_an_interruption_drops_the_copy() -> None:
    cluster = FakeCluster()

    def interrupt() -> None:
        raise KeyboardInterrupt

    cluster.interrupt = interrupt
    with pytest.raises(KeyboardInterrupt):
        rehearse(cluster)


def test_a_copy_that_cannot_be_dropped_is_reported_and_hides_no_result() -> None:
    said = rehearse(FakeCluster("drop"))
    assert "the migration took 2 s" in said[3]
    assert said[-1].endswith("is still there (it logged nothing): the next rehearsal drops it")


def test_a_rehearsal_that_runs_is_left_alone() -> None:
    cluster = FakeCluster()
    cluster.jobs["rehearsal"] = {"metadata": {"name": "rehearsal"}, "status": {}}
    with pytest.raises(OperationError, match=r"^the Job rehearsal is already running in airflow-platform: wait"):
        rehearse_on(stack_in(cluster, "dev"), SERVER, DISK_BYTES, IMAGE, REVISIONS)
    assert (list(cluster.jobs), cluster.created) == (["rehearsal"], [])


@pytest.mark.parametrize(
    "left",
    [
        {"metadata": {}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}},
        {"metadata": {"deletionTimestamp": "now"}, "status": {}},
    ],
    ids=["ended", "on its way out"],
)
def test_a_job_that_a_killed_rehearsal_left_makes_room(left: dict[str, Any]) -> None:
    cluster = FakeCluster()
    cluster.jobs["rehearsal"] = left
    assert "the migration took 2 s" in rehearse(cluster)[3]


def test_a_job_that_exceeds_its_deadline_is_not_a_failed_migration() -> None:
    cluster = FakeCluster("migrate")

    def overdue() -> None:
        condition = {"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded"}
        cluster.jobs["rehearsal"]["status"] = {"conditions": [condition]}

    cluster.interrupt = overdue
    with pytest.raises(OperationError, match=r"^the Job rehearsal exceeded its deadline of 3600 s: check its pod"):
        rehearse(cluster)


def test_a_deleted_job_is_an_error() -> None:
    cluster = FakeCluster()
    cluster.interrupt = cluster.jobs.clear
    with pytest.raises(OperationError, match=r"^the Job rehearsal or its pod was deleted, or its node was removed"):
        rehearse(cluster)


def test_a_failed_image_pull_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_INTERVAL_SECONDS", 0)
    monkeypatch.setattr("ops.kubernetes.diagnosis.IMAGE_SECONDS", 0)
    monkeypatch.setattr("ops.kubernetes.watch.CORRECTION_SECONDS", 0)
    cluster = FakeCluster()
    usual = cluster.pod
    waiting = {
        "name": "migrate",
        "image": IMAGE,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "x: gone"}},
    }

    def stuck(name: str) -> dict[str, Any]:
        pod = usual(name)
        return (
            pod if name != "rehearsal" else {**pod, "status": {"phase": "Pending", "initContainerStatuses": [waiting]}}
        )

    monkeypatch.setattr(cluster, "pod", stuck)
    with pytest.raises(
        OperationError, match=r"^pod rehearsal-x: the image registry.example/airflow:abc@sha256:0+ cannot"
    ):
        rehearse(cluster)


class Secrets:
    def __init__(self, *names: str) -> None:
        self.names = names

    def secrets(self, _: str) -> list[str]:
        return list(self.names)


def test_the_passwords_are_in_the_newest_secret_by_which_the_database_was_made() -> None:
    # The last one is of a deployment before the name became shorter.
    there = Secrets("postgres-admin-1", "create-mlflow-1", "create-airflow-2", "create-airflow-database-1")
    found = stack_in(there, "local").database_server
    assert (found.namespace, found.secret) == ("airflow-platform", "create-airflow-2")


def test_a_stack_without_a_database_is_an_error() -> None:
    with pytest.raises(OperationError, match=r"^local has no database server: run `make deploy STACK=local` first"):
        assert not stack_in(Secrets("postgres-admin-1"), "local").database_server


def test_on_aws_the_disk_is_that_of_the_instance(aws: str, account: Any) -> None:
    account.client("rds").create_db_instance(
        DBInstanceIdentifier="airflow-dev-database",
        DBInstanceClass="db.t4g.micro",
        Engine="postgres",
        AllocatedStorage=33,
    )
    stack = stack_in(Secrets("create-airflow-2"), "dev")
    assert (stack.database_server.namespace, stack.database_bytes()) == ("database-setup", 33 * 2**30)


def test_an_image_of_another_stack_is_copied_into_the_registry_of_the_stack_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[Any] = []
    release = a_release()
    target = release.images["airflow"].model_copy(update={"repository": "registry.staging/airflow"})

    def copy(source: Any, registry: Any, *_: Any) -> Any:
        used.append((source, registry))
        return target

    monkeypatch.setattr(AwsStack, "registry", lambda stack: stack.name)
    monkeypatch.setattr(AwsStack, "database_bytes", lambda _: DISK_BYTES)
    monkeypatch.setattr("ops.images.registries.copy", copy)
    monkeypatch.setattr(rehearsal, "rehearse_on", lambda *given: used.append(given[3]))
    for name in ("staging", "dev"):
        rehearsal.rehearse(stack_in(Secrets("create-airflow-2"), name), release)
    assert used == [("dev", "staging"), target.name, release.images["airflow"].name]

"""What `dags/<dag_id>/dag.yaml` may declare."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from infra.dag_declarations import (
    SCHEMA_FILE,
    BucketFolder,
    DagDeclaration,
    ModelServer,
    account_name,
    declarations,
    schema_text,
)
from infra.documents import REPOSITORY
from infra.errors import OperationError

EXTERNAL = (
    "external: {backend: sagemaker, connection: x, instance_type: ml.m5.large, usd_per_hour: 0.23, max_minutes: 60}\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with the image `ml` and the DAG `churn`."""
    for file in ("images/ml/Dockerfile", "dags/churn/churn_dag.py", "dags/ml_common/pods.py"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    return tmp_path


def declare(root: Path, text: str) -> DagDeclaration:
    (root / "dags" / "churn" / "dag.yaml").write_text(text)
    return declarations(root)["churn"]


def test_a_dag_without_the_file_needs_only_its_own_folders(root: Path) -> None:
    assert declarations(root) == {"churn": DagDeclaration()}
    assert declare(root, "# nothing\n") == DagDeclaration()


def test_a_declaration_names_folders_and_further_permissions(root: Path) -> None:
    found = declare(
        root,
        "reads: [{bucket: data, prefix: tables/2026/}]\n"
        "serves: churn\n"
        "gpus: 2\n"
        "egress: [{host: '*.example.com', ports: [5432]}, {host: 2001:db8::/32, ports: [22]}]\n"
        "permissions: [{actions: ['sqs:SendMessage'], resources: ['arn:aws:sqs:us-east-1:123456789012:scores']}]\n",
    )
    assert found.reads == (BucketFolder(bucket="data", prefix="tables/2026/"),)
    assert [(server.host, server.ports) for server in found.egress] == [
        ("*.example.com", (5432,)),
        ("2001:db8::/32", (22,)),
    ]
    assert found.gpus == 2
    assert (found.image, found.serves, found.permissions[0].actions) == (
        "ml",
        ModelServer(name="churn"),
        ("sqs:SendMessage",),
    )


def test_a_model_server_has_a_size_and_replicas(root: Path) -> None:
    found = declare(root, "serves: {name: churn, size: large, replicas: 3}\n")
    assert found.serves == ModelServer(name="churn", size="large", replicas=3)
    jsonschema.validate({"serves": {"name": "churn", "size": "large"}}, json.loads(schema_text()))
    jsonschema.validate({"serves": "churn"}, json.loads(schema_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"serves": {"name": "churn", "size": "huge"}}, json.loads(schema_text()))


def test_a_dag_notifies_through_connections_with_their_server_or_topic(root: Path) -> None:
    topic = "arn:aws:sns:us-east-1:123456789012:team"
    mail = {"connection": "mail", "server": {"host": "smtp.example.com", "ports": [587]}}
    found = declare(root, f"notify: [team, {json.dumps(mail)}, {{connection: oncall, topic: '{topic}'}}]\n")
    assert [one.connection for one in found.notify] == ["team", "mail", "oncall"]
    assert [(server.host, server.ports) for server in found.notification_servers] == [("smtp.example.com", (587,))]
    assert found.notification_topics == (topic,)
    jsonschema.validate({"notify": ["team", mail]}, json.loads(schema_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"notify": [{"slack": "team"}]}, json.loads(schema_text()))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("\nread: []\n", r"dag.yaml, line 2: read: Extra inputs are not permitted"),
        ("reads: [{bucket: logs, prefix: x/}]\n", r"dag.yaml, line 1: reads.0.bucket: Input should be 'data' or 'art"),
        ("reads: [{bucket: data, prefix: /}]\n", r"dag.yaml, line 1: reads.0.prefix: String should match pattern"),
        ("reads: [{bucket: data, prefix: ../}]\n", r"reads.0.prefix: String should match pattern"),
        ("permissions: [{actions: ['s3:*'], resources: ['arn:aws:s3:::x']}]\n", r"permissions.0.actions.0: String sh"),
        ("permissions: [{actions: ['s3:GetObject'], resources: ['*']}]\n", r"permissions.0.resources.0: String should"),
        ("egress: [{host: warehouse, ports: [1]}]\n", r"egress.0.host: String should match pattern"),
        (
            "egress: [{host: 10.0.0.0/33, ports: [1]}]\n",
            r"egress.0.host: Value error, '10.0.0.0/33' does not appear to be",
        ),
        ("egress: [{host: 10.0.0.1/8, ports: [1]}]\n", r"egress.0.host: Value error, 10.0.0.1/8 has host bits set"),
        ("egress: [{host: x.example.com, ports: []}]\n", r"egress.0.ports: Tuple should have at least 1 item"),
        ("serves: Churn\n", r"dag.yaml, line 1: serves.name: String should match pattern"),
        ("serves: {size: small}\n", r"serves.name: Field required"),
        ("serves: {name: churn, size: huge}\n", r"serves.size: Input should be 'small', 'medium' or 'large'"),
        ("serves: {name: churn, replicas: 0}\n", r"serves.replicas: Input should be greater than or equal to 1"),
        ("notify: team\n", r"dag.yaml, line 1: notify: Input should be a valid tuple"),
        ("notify: [the team]\n", r"dag.yaml, line 1: notify.0.connection: String should match pattern"),
        ("notify: [{slack: team}]\n", r"dag.yaml, line 1: notify.0.connection: Field required"),
        ("notify: [{connection: x, kind: pager}]\n", r"dag.yaml, line 1: notify.0.kind: Extra inputs are not permi"),
        ("notify: [{connection: x, topic: team}]\n", r"dag.yaml, line 1: notify.0.topic: String should match pattern"),
        ("external: {backend: cray, connection: x}\n", r"dag.yaml, line 1: external.backend: Input should be 'sagemak"),
        (EXTERNAL.replace("ml.m5", "m5"), r"dag.yaml, line 1: external.instance_type: String should match pattern"),
        (EXTERNAL.replace("0.23", "free"), r"external.usd_per_hour: Input should be a valid number"),
        (EXTERNAL.replace("60", "1"), r"external.max_minutes: Input should be greater than or equal to 5"),
        (EXTERNAL.replace("connection", "conn_id"), r"external.connection: Field required"),
        ("node_pool: Large\n", r"node_pool: String should match pattern"),
        ("gpus: -1\n", r"gpus: Input should be greater than or equal to 0"),
        ("image: none\n", r"^dags/churn/dag.yaml: image: there is no folder images/none$"),
    ],
)
def test_a_wrong_declaration_is_one_sentence(root: Path, text: str, sentence: str) -> None:
    with pytest.raises(OperationError, match=sentence):
        declare(root, text)


@pytest.mark.parametrize("name", ["Churn", "churn__2", "2churn", "c" * 56, "processor"])
def test_a_folder_that_cannot_name_a_dag_everywhere_is_refused(root: Path, name: str) -> None:
    (root / "dags" / name).mkdir()
    (root / "dags" / name / f"{name}_dag.py").touch()
    with pytest.raises(OperationError, match=rf"^'{name}' is not a valid DAG ID: use at most 55 lower-case letters"):
        declarations(root)


def test_no_two_dags_share_an_account() -> None:
    accounts = [account_name(dag_id) for dag_id in ("churn", "churn_2", "churn2")]
    assert accounts == ["dag-churn", "dag-churn-2", "dag-churn2"]


def test_the_schema_file_is_up_to_date() -> None:
    assert SCHEMA_FILE.read_text() == schema_text(), "run `python -m infra.dag_declarations`"


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("dags/*/dag.yaml")), ids=lambda path: path.parent.name)
def test_every_declaration_agrees_with_the_schema_that_it_names(path: Path) -> None:
    text = path.read_text()
    first = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    schema: Any = json.loads((path.parent / first).resolve().read_text())
    jsonschema.validate(yaml.safe_load(text), schema)


@pytest.mark.parametrize("dag_id", ["flight_model", "image_classifier"])
def test_a_dag_serves_what_it_declares(dag_id: str) -> None:
    steps = (REPOSITORY / "dags" / dag_id / "steps.py").read_text()
    server = declarations()[dag_id].serves
    assert server
    assert f'SERVED_AS = "{server.name}"' in steps

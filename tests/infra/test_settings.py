import copy
import re
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from infra.airflow_platform import DagSource
from infra.documents import REPOSITORY
from infra.settings import PROJECT, ExistingClusterSettings, Settings, SettingsError, load, load_aws
from infra.settings.loading import parse, stack_summaries
from infra.settings.schema import SCHEMA_FILE, schema, schema_text
from infra.settings.stack_summaries import Source, StackSummary

STACK_FILES = [REPOSITORY / f"Pulumi.{stack}.yaml" for stack in stack_summaries()]


def changed(stack: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return a stack's `config` with some keys set, or removed if the value is `...`."""
    config = copy.deepcopy(yaml.safe_load((REPOSITORY / f"Pulumi.{stack}.yaml").read_text())["config"])
    for place, value in changes.items():
        *path, last = place.split(".") if place.startswith(f"{PROJECT}:") else [place]
        target = config
        for part in path:
            target = target[part]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return dict(config)


def refusal(stack: str, changes: dict[str, Any], others: dict[str, StackSummary] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(stack, f"Pulumi.{stack}.yaml", changed(stack, changes), stack_summaries() if others is None else others)
    return str(caught.value)


POOL = {
    "instance_families": ["m7a"],
    "architecture": "amd64",
    "capacity_types": ["spot"],
    "max_cpus": 8,
    "max_memory_gib": 32,
    "disk_gib": 40,
    "consolidation": "WhenEmpty",
    "consolidate_after": "5m",
}

MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    (
        "a misspelt section",
        {"airflow:netwrk": {}},
        "airflow:netwrk is an unknown setting: did you mean airflow:network?",
    ),
    (
        "a misspelt key",
        {"airflow:database.backup_dys": 3},
        "airflow:database.backup_dys is an unknown setting: did you mean airflow:database.backup_days?",
    ),
    (
        "a key without a similar one",
        {"airflow:storage.zzz": 3},
        "airflow:storage.zzz is an unknown setting: choose from airflow:storage.access_log_days, ",
    ),
    (
        "a key of another provider",
        {"gcp:zone": "x"},
        "gcp:zone is an unknown setting: choose from airflow:account_id, ",
    ),
    (
        "a missing key",
        {"airflow:database.multi_az": ...},
        "airflow:database.multi_az is missing: Whether a standby in a second zone takes over if the primary fails.",
    ),
    (
        "a missing section",
        {"airflow:storage": ...},
        "airflow:storage is missing: The S3 buckets.",
    ),
    (
        "a value outside the allowed ones",
        {"airflow:network.nat_gateways": "two"},
        "airflow:network.nat_gateways: 'two' is not allowed: input should be 'one' or 'one_per_zone'",
    ),
    (
        "a truth value for a choice",
        {"airflow:model_approval": True},
        "airflow:model_approval: True is not allowed: input should be 'none' or 'required'",
    ),
    (
        "an unknown mode of Weights & Biases",
        {"airflow:wandb": "on"},
        "airflow:wandb: 'on' is not allowed: input should be 'disabled', 'offline' or 'online'",
    ),
    (
        "a connection that Airflow cannot name",
        {"airflow:external_connections": ["my connection"]},
        r"airflow:external_connections.0: 'my connection' is not allowed: it must match ^[A-Za-z0-9_.-]+$",
    ),
    (
        "a value in the wrong format",
        {"airflow:account_id": "12"},
        r"airflow:account_id: '12' is not allowed: it must match ^\d{12}$",
    ),
    (
        "an unknown region",
        {"aws:region": "us-east-9"},
        "aws:region: us-east-9 is not a region with EKS: choose one of af-south-1, ",
    ),
    (
        "a zone of another region",
        {"airflow:network.zones": ["us-east-1a", "us-west-2b"]},
        "airflow:network.zones: us-west-2b is not a zone of us-east-1: use zones such as us-east-1a, us-east-1b",
    ),
    (
        "a zone twice",
        {"airflow:network.zones": ["us-east-1a", "us-east-1a"]},
        "airflow:network.zones: us-east-1a, us-east-1a lists a zone twice: list each zone once",
    ),
    (
        "one zone",
        {"airflow:network.zones": ["us-east-1a"]},
        "airflow:network.zones: ['us-east-1a'] is not allowed: tuple should have at least 2 items",
    ),
    (
        "an address for lineage without its scheme",
        {"airflow:lineage": {"url": "marquez.example.com:5000"}},
        "airflow:lineage.url: 'marquez.example.com:5000' is not allowed: it must match ^https?://",
    ),
    (
        "an API key for lineage in the address",
        {"airflow:lineage": {"url": "https://user:key@marquez.example.com"}},
        "airflow:lineage.url: 'https://user:key@marquez.example.com' is not allowed: it must match ^https?://",
    ),
    (
        "public addresses",
        {"airflow:network.cidr": "8.8.0.0/16"},
        "airflow:network.cidr: 8.8.0.0/16 is not allowed: choose a network of /16 to /20 within 10.0.0.0/8, ",
    ),
    (
        "a network too small for pods",
        {"airflow:network.cidr": "10.10.0.0/21"},
        "airflow:network.cidr: 10.10.0.0/21 is not allowed: choose a network of /16 to /20 within 10.0.0.0/8, ",
    ),
    (
        "a network that overlaps the Services",
        {"airflow:network.cidr": "172.20.0.0/16"},
        "airflow:network.cidr: 172.20.0.0/16 overlaps cluster.service_cidr, 172.20.0.0/16: choose another network",
    ),
    (
        "a network with host bits",
        {"airflow:network.cidr": "10.10.0.1/16"},
        "airflow:network.cidr: '10.10.0.1/16' is not allowed: ",
    ),
    (
        "GPU families in the CPU pool",
        {"airflow:node_pools.cpu.instance_families": ["m7a", "g6"]},
        "airflow:node_pools.cpu.instance_families: g6 have GPUs, but the pool has no max_gpus: use one pool with GPUs",
    ),
    (
        "CPU families in the GPU pool",
        {"airflow:node_pools.gpu.instance_families": ["g6", "m7a"]},
        "airflow:node_pools.gpu.instance_families: m7a have no GPUs, but the pool has max_gpus: use one pool with GPUs",
    ),
    (
        "a family that EKS does not support",
        {"airflow:node_pools.cpu.instance_families": ["m1"]},
        "airflow:node_pools.cpu.instance_families: EKS Auto Mode has no amd64 instances of m1: choose from c4 c5 ",
    ),
    (
        "a family of the other architecture",
        {"airflow:node_pools.cpu.instance_families": ["t4g"]},
        "airflow:node_pools.cpu.instance_families: EKS Auto Mode has no amd64 instances of t4g: choose from c4 c5 ",
    ),
    (
        "GPUs without a limit",
        {"airflow:node_pools.gpu.max_gpus": ..., "airflow:node_pools.gpu.instance_families": ["m7a"]},
        "airflow:node_pools.gpu.max_gpus: required, so that the bill always has a ceiling: set a number of GPUs",
    ),
    (
        "node pools without the one for Airflow itself",
        {"airflow:node_pools.cpu": ...},
        "airflow:node_pools: the pool cpu is missing: add it, because Airflow itself runs there",
    ),
    (
        "a node pool with an invalid name",
        {"airflow:node_pools.Large": POOL},
        "airflow:node_pools.Large: 'Large' is not allowed: it must match ^[a-z]",
    ),
    (
        "a node pool with a misspelt key",
        {"airflow:node_pools.cpu.max_gpu": 1},
        "airflow:node_pools.cpu.max_gpu is an unknown setting: did you mean airflow:node_pools.cpu.max_gpus?",
    ),
    (
        "a node pool without a limit",
        {"airflow:node_pools.cpu.max_cpus": ...},
        "airflow:node_pools.cpu.max_cpus is missing: Maximum vCPUs of the whole pool.",
    ),
    (
        "a taint of the nodes of Airflow itself",
        {"airflow:node_pools.cpu.taints": [{"key": "team"}]},
        "airflow:node_pools.cpu.taints: Airflow itself runs there and tolerates no taints: add another pool",
    ),
    (
        "GPUs for Airflow itself",
        {"airflow:node_pools.cpu.max_gpus": 1, "airflow:node_pools.cpu.instance_families": ["g6"]},
        "airflow:node_pools.cpu.max_gpus: Airflow itself runs there and needs no GPUs: add another pool",
    ),
    (
        "a label that Karpenter reserves",
        {"airflow:node_pools.gpu.labels": {"karpenter.sh/nodepool": "cpu"}},
        "airflow:node_pools.gpu.labels: karpenter.sh/nodepool: Kubernetes, Karpenter and EKS reserve these keys: use ",
    ),
    (
        "a taint that every other pool has",
        {"airflow:node_pools.gpu.taints": [{"key": "node-pool"}]},
        "airflow:node_pools.gpu.taints: node-pool: Kubernetes, Karpenter and EKS reserve these keys: use your own",
    ),
    (
        "a size that is none",
        {"airflow:node_pools.cpu.instance_sizes": ["big"]},
        "airflow:node_pools.cpu.instance_sizes.0: 'big' is not allowed: it must match ^(medium|large|",
    ),
    (
        "another architecture in one pool",
        {"airflow:node_pools.gpu.architecture": "arm64", "airflow:node_pools.gpu.instance_families": ["g5g"]},
        "airflow:node_pools.gpu.architecture: arm64 differs from node_pools.cpu: use one architecture, because both ",
    ),
    (
        "a budget without a duration",
        {"airflow:node_pools.cpu.disruption_budgets": [{"nodes": "0", "schedule": "0 7 * * *"}]},
        "airflow:node_pools.cpu.disruption_budgets.0: schedule and duration must be set together: set both or neither",
    ),
    (
        "a budget with a duration in seconds",
        {"airflow:node_pools.cpu.disruption_budgets": [{"nodes": "0", "schedule": "0 7 * * *", "duration": "30s"}]},
        "airflow:node_pools.cpu.disruption_budgets.0.duration: '30s' is not allowed: it must match ^(",
    ),
    (
        "a budget with an invalid schedule",
        {"airflow:node_pools.cpu.disruption_budgets": [{"nodes": "0", "schedule": "at 7", "duration": "1h"}]},
        "airflow:node_pools.cpu.disruption_budgets.0.schedule: 'at 7' is not allowed: it must match ^(",
    ),
    (
        "a repository with a password",
        {"airflow:dags.repository": "https://me:secret@example.com/dags.git"},
        "airflow:dags.repository: the address contains a user name or password: remove it, ",
    ),
    (
        "a repository with a token as its user",
        {"airflow:dags.repository": "https://ghp_123@example.com/dags.git"},
        "airflow:dags.repository: the address contains a user name or password: remove it, ",
    ),
    (
        "SSH without host keys",
        {"airflow:dags.repository": "git@example.com:dags.git", "airflow:dags.credentials": "ssh"},
        "airflow:dags.known_hosts: ssh credentials and known_hosts must be set together: set both",
    ),
    (
        "host keys without SSH",
        {"airflow:dags.known_hosts": "example.com ssh-ed25519 AAAA"},
        "airflow:dags.known_hosts: ssh credentials and known_hosts must be set together: set both",
    ),
    (
        "an SSH key for an HTTPS address",
        {"airflow:dags.credentials": "ssh", "airflow:dags.known_hosts": "example.com ssh-ed25519 AAAA"},
        "airflow:dags.credentials: https://github.com/example/airflow-on-kubernetes.git is not an SSH address: ",
    ),
    (
        "an SSH address without an SSH key",
        {"airflow:dags.repository": "ssh://git@example.com/dags.git"},
        "airflow:dags.credentials: ssh://git@example.com/dags.git is an SSH address: set ssh",
    ),
    (
        "a token without encryption",
        {"airflow:dags.repository": "http://example.com/dags.git", "airflow:dags.credentials": "token"},
        "airflow:dags.repository: http://example.com/dags.git would send the token unencrypted: ",
    ),
    (
        "an empty quota for tasks",
        {"airflow:tasks.max_pods": 0},
        "airflow:tasks.max_pods: 0 is not allowed: input should be greater than 0",
    ),
    (
        "a database that cannot grow",
        {"airflow:database.storage_gib": 100, "airflow:database.max_storage_gib": 105},
        "airflow:database.max_storage_gib: 105 leaves the disk of 100 GiB no room to grow: set 110 or more",
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_one_line_that_names_file_key_and_what_is_allowed(changes: dict[str, Any], sentence: str) -> None:
    message = refusal("dev", changes)
    assert message.startswith(f"Pulumi.dev.yaml: {sentence}")
    assert "\n" not in message


def test_all_mistakes_are_reported_at_once() -> None:
    message = refusal("dev", {"airflow:network.cidr": "8.8.0.0/16", "airflow:network.zones": ["a", "us-east-1a"]})
    assert [line.split(": ")[1] for line in message.splitlines()] == ["airflow:network.zones", "airflow:network.cidr"]


def test_a_network_that_overlaps_another_stack_is_refused() -> None:
    message = refusal("dev", {}, {"other": StackSummary(IPv4Network("10.10.128.0/20"))})
    assert message == (
        "Pulumi.dev.yaml: airflow:network.cidr: 10.10.0.0/16 overlaps 10.10.128.0/20 in Pulumi.other.yaml, and VPCs "
        "that overlap cannot be connected: choose another network"
    )


def test_the_other_stacks_are_those_with_files_in_the_same_folder(tmp_path: Path) -> None:
    for name in ("dev", "twin"):
        (tmp_path / f"Pulumi.{name}.yaml").write_text((REPOSITORY / "Pulumi.dev.yaml").read_text())
    with pytest.raises(SettingsError, match=r"10\.10\.0\.0/16 overlaps 10\.10\.0\.0/16 in Pulumi\.twin\.yaml"):
        load("dev", tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("airflow:protect", False),
        ("airflow:network.nat_gateways", "one"),
        ("airflow:network.zones", ["us-east-1a", "us-east-1b"]),
        ("airflow:network.flow_log_days", ...),
        ("airflow:cluster.log_types", ["api"]),
        ("airflow:storage.access_log_days", ...),
        ("airflow:database.multi_az", False),
        ("airflow:database.backup_days", 6),
        ("airflow:dags.branch", "prod"),
        ("airflow:release.after", ...),
        ("airflow:release.gates.tests", False),
        ("airflow:release.gates.dag_integrity", False),
        ("airflow:release.gates.plan_review", ...),
        ("airflow:release.gates.upgrade_rehearsal", ...),
        ("airflow:release.gates.soak_hours", 0),
    ],
)
def test_prod_requires_protection(key: str, value: Any) -> None:
    lines = refusal("prod", {key: value}).splitlines()
    assert lines[-1].startswith(f"Pulumi.prod.yaml: {key}: required for the stack prod: set ")


def test_a_protected_api_is_not_open_to_the_internet() -> None:
    message = refusal("prod", {"airflow:cluster.public_access_cidrs": ["0.0.0.0/0"]})
    assert message.startswith(
        "Pulumi.prod.yaml: airflow:cluster.public_access_cidrs: 0.0.0.0/0 is the whole internet: "
    )


REPOSITORIES = [
    "https://example.com/ml/dags.git",
    "https://example.com/ml/dags/",
    "https://Example.com/ml/dags",
    "git@example.com:ml/dags.git",
    "ssh://git@example.com:22/ml/dags.git",
]


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_a_repository_is_recognized_in_every_form_of_its_address(repository: str) -> None:
    assert Source.of(repository, "main") == Source("example.com/ml/dags", "main")


def test_two_stacks_never_follow_the_same_branch() -> None:
    other = StackSummary(source=Source.of("git@github.com:example/airflow-on-kubernetes.git", "dev"))
    assert refusal("dev", {}, {"other": other}) == (
        "Pulumi.dev.yaml: airflow:dags.branch: Pulumi.other.yaml also follows dev of "
        "github.com/example/airflow-on-kubernetes: use one branch for each stack"
    )


def test_the_branches_of_other_stacks_are_those_in_their_files(tmp_path: Path) -> None:
    for name in ("dev", "staging"):
        text = (REPOSITORY / f"Pulumi.{name}.yaml").read_text()
        (tmp_path / f"Pulumi.{name}.yaml").write_text(text.replace("branch: staging", "branch: dev"))
    with pytest.raises(
        SettingsError, match=r"airflow:dags\.branch: Pulumi\.staging\.yaml also follows dev of github\.com/"
    ):
        load("dev", tmp_path)


@pytest.mark.parametrize(("stack", "branch"), [("dev", "dev"), ("staging", "staging"), ("prod", "main")])
def test_a_stack_follows_its_branch(stack: str, branch: str) -> None:
    assert load_aws(stack).dags.branch == branch


def existing(**changes: Any) -> dict[str, Any]:
    config = yaml.safe_load((REPOSITORY / "Pulumi.local.yaml").read_text())["config"]
    return {**config, **{f"airflow:{name}": value for name, value in changes.items()}}


def test_a_stack_that_names_contexts_is_on_an_existing_cluster() -> None:
    settings = load("local")
    assert isinstance(settings, ExistingClusterSettings)
    assert settings.namespace == "airflow"
    assert "kind-*" in settings.contexts


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"context": ["x"]}, "airflow:context is an unknown setting: did you mean airflow:contexts?"),
        ({"owner": "me"}, "airflow:owner is an unknown setting: choose from airflow:contexts, "),
        ({"contexts": []}, "airflow:contexts: [] is not allowed: tuple should have at least 1 item"),
        (
            {"contexts": ["kind-*", "*"]},
            "airflow:contexts: * matches every cluster: name the contexts that the stack may use",
        ),
        ({"contexts": ["a b"]}, "airflow:contexts.0: 'a b' is not allowed: it must match ^["),
        ({"namespace": "default"}, "airflow:namespace: default is reserved by Kubernetes: choose a namesp"),
        ({"namespace": "kube-system"}, "airflow:namespace: kube-system is reserved by Kubernetes"),
        ({"namespace": "x" * 55}, "airflow:namespace: 'xxxxx"),
        ({"storage_class": "Fast SSD"}, "airflow:storage_class: 'Fast SSD' is not allowed: it must match ^["),
    ],
)
def test_a_mistake_of_a_stack_on_an_existing_cluster_is_one_line(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse("local", "Pulumi.local.yaml", existing(**changes), {})
    assert str(caught.value).startswith(f"Pulumi.local.yaml: {sentence}")


def test_a_misspelt_key_that_decides_the_kind_of_stack_does_not_change_it() -> None:
    config = existing(contxts=["kind-*"])
    del config["airflow:contexts"]
    with pytest.raises(
        SettingsError, match="airflow:contexts is missing: The contexts of the kubeconfig file"
    ) as caught:
        parse("local", "Pulumi.local.yaml", {**config, "airflow:namespace": "airflow"}, {})
    assert "airflow:contxts is an unknown setting: did you mean airflow:contexts?" in str(caught.value)


def test_a_stack_without_an_account_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"^local runs on an existing cluster and has no AWS account: choose a stack on AWS$"
    ):
        load_aws("local")


def test_the_error_about_an_unknown_stack_lists_the_stacks() -> None:
    with pytest.raises(SettingsError, match=r"^Pulumi\.nope\.yaml does not exist: choose one of the stacks dev, "):
        load("nope")


@pytest.mark.parametrize("name", ["Dev", "my_stack", "a--b", "1st", "end-"])
def test_a_stack_name_must_be_valid_on_aws(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is not a valid stack name: "):
        load(name)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("config: [", "Pulumi.qa.yaml, line 1: not valid YAML: "),
        ("config:\n  airflow:tasks:\n\tmax_pods: 1\n", "Pulumi.qa.yaml, line 3: not valid YAML: "),
        ("- config\n", "Pulumi.qa.yaml: Input should be a valid dictionary"),
        ("settings: {}", "Pulumi.qa.yaml: config is missing"),
        ("", "Pulumi.qa.yaml: config is missing"),
    ],
)
def test_an_invalid_stack_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "Pulumi.qa.yaml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load("qa", tmp_path)
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(sentence)


def test_another_stacks_broken_file_does_not_stop_this_one(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text((REPOSITORY / "Pulumi.dev.yaml").read_text())
    (tmp_path / "Pulumi.broken.yaml").write_text("config: [")
    assert load("dev", tmp_path) == load("dev")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_aws("dev").network.cidr = IPv4Network("10.0.0.0/16")


@pytest.mark.parametrize("path", STACK_FILES, ids=lambda path: path.name)
def test_every_stack_file_agrees_with_the_schema(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text()), schema())


def test_the_schema_refuses_what_the_models_refuse() -> None:
    content = {"config": changed("dev", {"airflow:netwrk": {}})}
    with pytest.raises(jsonschema.ValidationError, match="airflow:netwrk"):
        jsonschema.validate(content, schema())


def test_the_schema_file_is_up_to_date() -> None:
    assert SCHEMA_FILE.read_text() == schema_text(), "run `python -m infra.settings`"


@pytest.mark.parametrize("path", STACK_FILES, ids=lambda path: path.name)
def test_every_stack_file_names_the_schema_for_editors(path: Path) -> None:
    named = re.search(r"\$schema=(\S+)", path.read_text().splitlines()[0])
    assert named
    assert (REPOSITORY / named[1]).resolve() == SCHEMA_FILE


def test_the_project_file_runs_this_program_in_the_projects_environment() -> None:
    project = yaml.safe_load((REPOSITORY / "Pulumi.yaml").read_text())
    assert project["name"] == PROJECT
    assert project["main"] == "infra"
    assert project["runtime"]["options"] == {"toolchain": "pip", "virtualenv": ".venv"}


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                found |= models(candidate)
    return found


MODELS = {model.__name__: model for kind in (Settings, ExistingClusterSettings) for model in models(kind)}


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_setting_is_described(model: str) -> None:
    assert [name for name, field in MODELS[model].model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    "model", sorted(MODELS.keys() - {"DisruptionBudget"})
)  # its fields are passed to Karpenter as they are
def test_every_setting_is_read(model: str) -> None:
    found = (path for folder in ("infra", "ops") for path in (REPOSITORY / folder).rglob("*.py"))
    files = [path for path in found if path.parent.name != "settings"]
    sources = "\n".join(path.read_text() for path in files)
    # The DAG settings are copied as a whole to fields of the same names.
    fields = [name for name in MODELS[model].model_fields if name not in DagSource.__dataclass_fields__]
    assert [name for name in fields if not re.search(rf"\.{name}\b", sources)] == []


def test_no_setting_is_secret() -> None:
    names = [name for model in MODELS.values() for name in model.model_fields]
    assert not [name for name in names if re.search(r"password|secret|token|private_key", name)]


def test_the_settings_of_dags_are_those_of_their_source() -> None:
    assert MODELS["DagSettings"].model_fields.keys() == DagSource.__dataclass_fields__.keys()

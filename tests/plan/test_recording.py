import json
import os
from pathlib import Path

import pulumi
import pytest

from ops.plan.recording import Recording, Resource, engine_config, record


def only(recording: Recording, type_: str) -> Resource:
    (found,) = recording.of_type(type_)
    return found


def test_inputs_are_recorded_with_the_providers_property_names(toy: Path) -> None:
    subnet = only(record("dev", toy), "aws:ec2/subnet:Subnet")
    assert subnet.inputs == {"availabilityZone": "us-east-1a", "cidrBlock": "10.0.0.0/24", "vpcId": "vpc-vpc"}
    assert subnet.custom


def test_the_parents_of_resources_and_components_are_recorded(toy: Path) -> None:
    recording = record("dev", toy)
    house = only(recording, "toy:index:House")
    assert [child.name for child in recording.children(house.urn)] == ["subnet", "vpc"]
    assert house.parent == only(recording, "pulumi:pulumi:Stack").urn
    assert not house.custom


def test_urns_are_those_of_the_engine(toy: Path) -> None:
    urns = {resource.name: resource.urn for resource in record("dev", toy).resources}
    assert urns["vpc"] == "urn:pulumi:dev::toy::toy:index:House$aws:ec2/vpc:Vpc::vpc"
    assert urns["role"] == "urn:pulumi:dev::toy::aws:iam/role:Role::role"


def test_dependencies_are_those_that_are_declared_and_those_whose_outputs_are_used(toy: Path) -> None:
    recording = record("dev", toy)
    names = {resource.urn: resource.name for resource in recording.resources}
    cluster = only(recording, "aws:eks/cluster:Cluster")
    assert [names[urn] for urn in cluster.dependencies] == ["role", "subnet", "vpc"]


def test_protection_and_provider_are_recorded(toy: Path) -> None:
    recording = record("dev", toy)
    assert [resource.name for resource in recording.resources if resource.protect] == ["cluster"]
    assert only(recording, "kubernetes:core/v1:Secret").provider == "pulumi:providers:kubernetes::kubernetes"


def test_secrets_are_masked_everywhere(toy: Path) -> None:
    recording = record("dev", toy)
    assert only(recording, "aws:rds/instance:Instance").inputs["password"] == "[secret]"
    assert only(recording, "aws:secretsmanager/secretVersion:SecretVersion").inputs["secretString"] == "[secret]"
    assert only(recording, "kubernetes:core/v1:Secret").inputs["stringData"] == "[secret]"
    assert recording.exports["password"] == recording.exports["token"] == "[secret]"
    assert "x" * 20 not in recording.to_json()


def test_cloud_functions_and_outputs_have_invented_results(toy: Path) -> None:
    exports = record("dev", toy).exports
    assert exports["account"] == "123456789012"
    assert exports["region"] == "us-east-1"
    assert exports["partition"] == "aws"
    assert exports["role"] == "arn:aws:iam::123456789012:role/toy-role"
    assert exports["host"] == "toy.invented.us-east-1.rds.amazonaws.com"
    assert exports["rooms"] == 2


def test_a_kubernetes_object_without_a_name_gets_one(toy: Path) -> None:
    program = "import pulumi, pulumi_kubernetes as k\npulumi.export('name', k.core.v1.ConfigMap('it').metadata.name)\n"
    (toy / "__main__.py").write_text(program)
    assert record("dev", toy).exports["name"] == "it"


def test_the_account_id_is_that_of_the_settings(toy: Path) -> None:
    with (toy / "Pulumi.dev.yaml").open("a") as file:
        file.write('  toy:account_id: "111111111111"\n')
    exports = record("dev", toy).exports
    assert exports["account"] == "111111111111"
    assert exports["role"] == "arn:aws:iam::111111111111:role/toy-role"


def test_the_error_about_a_function_without_a_result_says_where_to_add_one(toy: Path) -> None:
    (toy / "__main__.py").write_text("import pulumi_aws as aws\naws.get_regions()\n")
    with pytest.raises(Exception, match=r"no mock for aws:index/getRegions:getRegions: add one to Cloud.call"):
        record("dev", toy)


def test_two_resources_with_the_same_urn_are_refused(toy: Path) -> None:
    program = "import pulumi_aws as aws\nfor _ in range(2):\n    aws.ec2.Vpc('vpc', cidr_block='10.0.0.0/16')\n"
    (toy / "__main__.py").write_text(program)
    with pytest.raises(Exception, match="two resources have the URN"):
        record("dev", toy)


def test_an_error_in_the_program_reaches_the_caller_unchanged(toy: Path) -> None:
    (toy / "__main__.py").write_text("import pulumi\nraise pulumi.RunError('Pulumi.dev.yaml: no such key')\n")
    with pytest.raises(pulumi.RunError, match=r"^Pulumi.dev.yaml: no such key$"):
        record("dev", toy)


def test_variables_of_the_users_shell_are_hidden_and_restored(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("PULUMI_CONFIG", '{"toy:size": "1"}')
    seen = "[name for name in os.environ if name.startswith(('AWS', 'PULUMI'))]"
    program = f"import os, pulumi\npulumi.export('seen', {seen})\n"
    (toy / "__main__.py").write_text(program)
    assert record("dev", toy).exports["seen"] == []
    assert os.environ["AWS_REGION"] == "eu-central-1"


def test_recordings_do_not_depend_on_the_run(toy: Path) -> None:
    assert record("dev", toy) == record("dev", toy)


def test_a_recording_survives_json(toy: Path) -> None:
    recording = record("dev", toy)
    assert Recording.from_json(recording.to_json()) == recording


def test_settings_reach_a_program_in_the_same_form_as_from_the_engine() -> None:
    given = {"aws:region": "us-east-1", "plain": "text", "toy:list": [1, 2], "toy:key": {"secure": "v1:abc"}}
    assert engine_config("toy", given) == (
        {"aws:region": "us-east-1", "toy:plain": "text", "toy:list": "[1, 2]", "toy:key": "[secret]"},
        ["toy:key"],
    )


def test_all_stacks_are_recorded_in_one_process(recordings: dict[str, Recording]) -> None:
    assert [recording.stack for recording in recordings.values()] == ["dev", "staging", "prod"]
    assert all(recording.of_type("aws:eks/cluster:Cluster") for recording in recordings.values())


def test_no_value_from_another_resource_is_missing(recording: Recording) -> None:
    wrong = [resource.urn for resource in recording.resources if "None" in json.dumps(resource.inputs)]
    assert not wrong


def test_a_program_finds_an_invented_cluster_by_the_first_allowed_context(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (toy / "Pulumi.dev.yaml").open("a") as file:
        file.write("  toy:contexts: [kind-*, other]\n")
    monkeypatch.setenv("KUBECONFIG", "of the user")
    program = "import os, pathlib, yaml, pulumi\n"
    program += "found = yaml.safe_load(pathlib.Path(os.environ['KUBECONFIG']).read_text())\n"
    program += "pulumi.export('context', found['current-context'])\n"
    (toy / "__main__.py").write_text(program)
    assert record("dev", toy).exports["context"] == "kind-plan"
    assert os.environ["KUBECONFIG"] == "of the user"

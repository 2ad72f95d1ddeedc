"""Rules for every resource of every stack; resources that are added later are covered as well."""

import json
import re
from collections.abc import Iterator
from typing import Any

from infra.aws.names import Limit
from infra.documents import REPOSITORY
from infra.settings import Settings
from ops.plan.resources import SECRET, Recording, Resource

STABLE_TAGS = {"project", "stack", "owner", "cost-center", "managed-by"}


def custom(recording: Recording, prefix: str) -> list[Resource]:
    return [resource for resource in recording.resources if resource.custom and resource.type.startswith(prefix)]


def only(resources: list[Resource]) -> Resource:
    [found] = resources
    return found


def of_bucket(recording: Recording, type_: str) -> dict[str, Resource]:
    return {resource.inputs["bucket"]: resource for resource in recording.of_type(f"aws:s3/{type_}")}


def buckets(recording: Recording) -> dict[str, Resource]:
    return of_bucket(recording, "bucket:Bucket")


# Encryption


def test_every_bucket_is_encrypted_by_the_data_key_with_bucket_keys(recording: Recording) -> None:
    encryption = of_bucket(recording, "bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration")
    assert encryption.keys() == buckets(recording).keys()
    for name, resource in encryption.items():
        [rule] = resource.inputs["rules"]
        default = rule["applyServerSideEncryptionByDefault"]
        if "access-logs" in name:  # S3 only delivers access logs to such a bucket
            assert default == {"sseAlgorithm": "AES256"}
        else:
            assert default["sseAlgorithm"] == "aws:kms"
            assert default["kmsMasterKeyId"].endswith("key/data-key")
            assert rule["bucketKeyEnabled"] is True


def test_every_key_is_rotated_and_cannot_be_deleted_within_a_week(recording: Recording, settings: Settings) -> None:
    for key in recording.of_type("aws:kms/key:Key"):
        assert key.inputs["enableKeyRotation"] is True
        assert key.inputs["deletionWindowInDays"] >= (30 if settings.protect else 7)


def test_every_database_and_secret_is_encrypted_by_the_data_key(recording: Recording) -> None:
    for database in recording.of_type("aws:rds/instance:Instance"):
        assert database.inputs["storageEncrypted"] is True
        assert database.inputs["kmsKeyId"].endswith("key/data-key")
        assert database.inputs["performanceInsightsKmsKeyId"].endswith("key/data-key")
    for secret in recording.of_type("aws:secretsmanager/secret:Secret"):
        assert secret.inputs["kmsKeyId"].endswith("key/data-key")


def test_kubernetes_secrets_are_encrypted_by_the_clusters_key(recording: Recording) -> None:
    cluster = only(recording.of_type("aws:eks/cluster:Cluster"))
    assert cluster.inputs["encryptionConfig"]["resources"] == ["secrets"]
    assert cluster.inputs["encryptionConfig"]["provider"]["keyArn"].endswith("key/cluster-key")


def test_every_log_group_has_a_retention_and_is_encrypted_by_a_key_that_allows_it(recording: Recording) -> None:
    policy = json.loads(
        only([key for key in recording.of_type("aws:kms/key:Key") if key.name == "cluster-key"]).inputs["policy"]
    )
    patterns = policy["Statement"][1]["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    groups = recording.of_type("aws:cloudwatch/logGroup:LogGroup")
    assert groups
    for group in groups:
        assert group.inputs["retentionInDays"] > 0
        assert group.inputs["kmsKeyId"].endswith("key/cluster-key")
        arn = f"arn:aws:logs:us-east-1:{recording.exports['account_id']}:log-group:{group.inputs['name']}"
        assert any(re.fullmatch(pattern.replace("*", ".*"), arn) for pattern in patterns)


def test_every_storage_class_encrypts(recording: Recording) -> None:
    storage_class = only(recording.of_type("kubernetes:storage.k8s.io/v1:StorageClass"))
    assert storage_class.inputs["parameters"]["encrypted"] == "true"
    assert storage_class.inputs["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}


def test_no_password_is_in_plain_text(recording: Recording) -> None:
    # The recording invents passwords of one repeated letter; no other value looks like that.
    everything = json.dumps([dict(resource.inputs) for resource in recording.resources]) + json.dumps(
        dict(recording.exports)
    )
    assert "x" * 32 not in everything
    assert only(recording.of_type("aws:rds/instance:Instance")).inputs["password"] == SECRET
    for version in recording.of_type("aws:secretsmanager/secretVersion:SecretVersion"):
        assert version.inputs["secretString"] == SECRET


# Privacy


def test_no_bucket_can_become_public_and_every_request_needs_tls(recording: Recording) -> None:
    blocks = of_bucket(recording, "bucketPublicAccessBlock:BucketPublicAccessBlock")
    ownership = of_bucket(recording, "bucketOwnershipControls:BucketOwnershipControls")
    policies = of_bucket(recording, "bucketPolicy:BucketPolicy")
    assert buckets(recording).keys() == blocks.keys() == ownership.keys() == policies.keys()
    for name in buckets(recording):
        flags = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
        assert all(blocks[name].inputs[flag] is True for flag in flags)
        assert ownership[name].inputs["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
        refusal = json.loads(policies[name].inputs["policy"])["Statement"][0]
        assert refusal == {
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:*"],
            "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }


def test_no_security_group_is_open_to_the_internet(recording: Recording) -> None:
    assert all("cidrIpv4" not in r.inputs or r.inputs["cidrIpv4"] != "0.0.0.0/0" for r in custom(recording, "aws:vpc/"))
    for group in recording.of_type("aws:ec2/securityGroup:SecurityGroup"):
        assert not group.inputs.get("ingress")
    default = only(recording.of_type("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"))
    assert default.inputs["ingress"] == default.inputs["egress"] == []


def test_the_database_is_reachable_only_from_the_cluster_and_with_tls(recording: Recording) -> None:
    database = only(recording.of_type("aws:rds/instance:Instance"))
    assert database.inputs["publiclyAccessible"] is False
    [group] = database.inputs["vpcSecurityGroupIds"]
    rules = [
        rule
        for rule in recording.of_type("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
        if rule.inputs["securityGroupId"] == group
    ]
    assert [rule.inputs["referencedSecurityGroupId"] for rule in rules] == ["sg-cluster"]
    assert (only(rules).inputs["fromPort"], only(rules).inputs["toPort"]) == (5432, 5432)
    parameters = only(recording.of_type("aws:rds/parameterGroup:ParameterGroup"))
    assert {p["name"]: p["value"] for p in parameters.inputs["parameters"]} == {"rds.force_ssl": "1"}
    assert parameters.inputs["family"] == "postgres17"
    assert database.inputs["engineVersion"] == "17"


def test_network_policies_are_enforced(recording: Recording) -> None:
    maps = {item.inputs["metadata"]["name"]: item.inputs for item in recording.of_type("kubernetes:core/v1:ConfigMap")
            if item.inputs["metadata"].get("namespace") == "kube-system"}  # fmt: skip
    assert maps["amazon-vpc-cni"]["data"] == {"enable-network-policy-controller": "true"}
    for node_class in recording.of_type("kubernetes:eks.amazonaws.com/v1:NodeClass"):
        assert node_class.inputs["spec"]["networkPolicy"] == "DefaultAllow"


def test_database_nodes_and_cluster_are_only_in_private_subnets(recording: Recording, settings: Settings) -> None:
    private = {
        f"subnet-{subnet.name}" for subnet in recording.of_type("aws:ec2/subnet:Subnet") if "private" in subnet.name
    }
    assert len(private) == len(settings.network.zones)
    assert set(only(recording.of_type("aws:rds/subnetGroup:SubnetGroup")).inputs["subnetIds"]) == private
    assert set(control_plane_subnets(recording)) <= private
    for node_class in recording.of_type("kubernetes:eks.amazonaws.com/v1:NodeClass"):
        assert {term["id"] for term in node_class.inputs["spec"]["subnetSelectorTerms"]} == private
        assert node_class.inputs["spec"]["securityGroupSelectorTerms"] == [{"id": "sg-cluster"}]


def control_plane_subnets(recording: Recording) -> list[str]:
    return list(only(recording.of_type("aws:eks/cluster:Cluster")).inputs["vpcConfig"]["subnetIds"])


def test_the_control_plane_has_the_first_two_zones_with_two_zones_as_with_three(
    recording: Recording, settings: Settings
) -> None:
    # EKS refuses to change them later, so a third zone may not.
    assert control_plane_subnets(recording) == [f"subnet-private-{zone}" for zone in settings.network.zones[:2]]


def test_no_subnet_assigns_public_addresses(recording: Recording) -> None:
    assert all(s.inputs["mapPublicIpOnLaunch"] is False for s in recording.of_type("aws:ec2/subnet:Subnet"))


def test_private_subnets_have_no_route_through_the_internet_gateway(recording: Recording) -> None:
    for route in recording.of_type("aws:ec2/route:Route"):
        assert ("natGatewayId" in route.inputs) == route.name.startswith("private")
        assert ("gatewayId" in route.inputs) == route.name.startswith("public")


def test_the_clusters_api_is_reachable_only_from_the_networks_in_the_settings(
    recording: Recording, settings: Settings
) -> None:
    access = only(recording.of_type("aws:eks/cluster:Cluster")).inputs["vpcConfig"]
    cidrs = [str(cidr) for cidr in settings.cluster.public_access_cidrs]
    assert access["endpointPrivateAccess"] is True
    assert access["endpointPublicAccess"] is bool(cidrs)
    assert access.get("publicAccessCidrs", []) == cidrs


# Cluster


def test_auto_mode_is_fully_enabled(recording: Recording) -> None:
    cluster = only(recording.of_type("aws:eks/cluster:Cluster")).inputs
    assert cluster["version"] == "1.35"
    assert cluster["computeConfig"] == {"enabled": True}
    assert cluster["storageConfig"] == {"blockStorage": {"enabled": True}}
    assert cluster["kubernetesNetworkConfig"]["elasticLoadBalancing"] == {"enabled": True}
    assert cluster["bootstrapSelfManagedAddons"] is False
    assert cluster["accessConfig"]["authenticationMode"] == "API"


def test_the_control_planes_logs_have_a_retention(recording: Recording, settings: Settings) -> None:
    cluster = only(recording.of_type("aws:eks/cluster:Cluster"))
    group = only([g for g in recording.of_type("aws:cloudwatch/logGroup:LogGroup") if "/eks/" in g.inputs["name"]])
    assert group.inputs["name"] == f"/aws/eks/{cluster.inputs['name']}/cluster"
    assert group.inputs["retentionInDays"] == settings.cluster.log_days
    assert group.urn in cluster.dependencies
    assert "audit" in cluster.inputs["enabledClusterLogTypes"]


def test_nodes_may_join(recording: Recording) -> None:
    role = only([r for r in recording.of_type("aws:iam/role:Role") if r.name == "node-role"]).inputs["name"]
    [entry] = [e.inputs for e in recording.of_type("aws:eks/accessEntry:AccessEntry") if e.inputs["type"] == "EC2"]
    [association] = [
        association.inputs
        for association in recording.of_type("aws:eks/accessPolicyAssociation:AccessPolicyAssociation")
        if association.name == "node-access-policy"
    ]
    assert entry["type"] == "EC2"
    assert (
        entry["principalArn"]
        == association["principalArn"]
        == f"arn:aws:iam::{recording.exports['account_id']}:role/{role}"
    )
    assert association["policyArn"].endswith("/AmazonEKSAutoNodePolicy")
    for node_class in recording.of_type("kubernetes:eks.amazonaws.com/v1:NodeClass"):
        assert node_class.inputs["spec"]["role"] == role


def test_every_node_pool_has_a_limit_and_a_node_class(recording: Recording, settings: Settings) -> None:
    classes = {n.inputs["metadata"]["name"] for n in recording.of_type("kubernetes:eks.amazonaws.com/v1:NodeClass")}
    pools = recording.of_type("kubernetes:karpenter.sh/v1:NodePool")
    assert {pool.inputs["metadata"]["name"] for pool in pools} == settings.node_pools.keys()
    for pool in pools:
        assert pool.inputs["spec"]["template"]["spec"]["nodeClassRef"]["name"] in classes
        assert {"cpu", "memory"} <= pool.inputs["spec"]["limits"].keys()


def test_no_hourly_cost_arises_beyond_the_settings(recording: Recording, settings: Settings) -> None:
    network = settings.network
    gateways = 1 if network.nat_gateways == "one" else len(network.zones)
    assert len(recording.of_type("aws:ec2/natGateway:NatGateway")) == gateways
    assert len(recording.of_type("aws:ec2/eip:Eip")) == gateways
    assert len(custom(recording, "aws:ec2/vpcEndpoint")) == 1 + len(network.interface_endpoints)
    assert custom(recording, "aws:eks/nodeGroup") == custom(recording, "aws:ec2/instance") == []


# Storage


def test_every_bucket_keeps_versions_and_has_lifecycle_rules(recording: Recording) -> None:
    versioning = of_bucket(recording, "bucketVersioning:BucketVersioning")
    lifecycle = of_bucket(recording, "bucketLifecycleConfiguration:BucketLifecycleConfiguration")
    assert buckets(recording).keys() == versioning.keys() == lifecycle.keys()
    for name in buckets(recording):
        assert versioning[name].inputs["versioningConfiguration"] == {"status": "Enabled"}
        rules = {rule["id"]: rule for rule in lifecycle[name].inputs["rules"]}
        assert {"old-versions", "incomplete-uploads"} <= rules.keys()
        assert all(rule["status"] == "Enabled" for rule in rules.values())
        assert ("expiration" in rules) == ("logs" in name)
        assert ("cold-storage" in rules) == ("-data-" in name)


def test_access_logs_of_buckets_follow_the_settings(recording: Recording, settings: Settings) -> None:
    logging = of_bucket(recording, "bucketLogging:BucketLogging")
    wanted = settings.storage.access_log_days is not None
    expected = {name for name in buckets(recording) if "access-logs" not in name} if wanted else set()
    assert logging.keys() == expected
    assert all("access-logs" in resource.inputs["targetBucket"] for resource in logging.values())


def test_every_image_has_a_repository_that_scans_and_keeps_tags(recording: Recording) -> None:
    repositories = recording.of_type("aws:ecr/repository:Repository")
    assert {r.inputs["name"] for r in repositories if "/previews/" not in r.inputs["name"]} == {
        f"airflow-{recording.stack}/{path.parent.name}" for path in REPOSITORY.glob("images/*/Dockerfile")
    }
    assert len(recording.of_type("aws:ecr/lifecyclePolicy:LifecyclePolicy")) == len(repositories)
    for repository in repositories:
        assert repository.inputs["imageTagMutability"] == "IMMUTABLE"
        assert repository.inputs["imageScanningConfiguration"] == {"scanOnPush": True}


# Protection

HOLDS_DATA = ("aws:s3/bucket:Bucket", "aws:rds/instance:Instance", "aws:kms/key:Key", "aws:eks/cluster:Cluster")


def test_resources_with_data_are_protected_if_the_settings_say_so(recording: Recording, settings: Settings) -> None:
    protect = settings.protect
    holders = recording.of_type(*HOLDS_DATA)
    assert holders
    assert all(resource.protect is protect for resource in holders)
    assert all(bucket.inputs["forceDestroy"] is not protect for bucket in buckets(recording).values())
    assert all(r.inputs["forceDelete"] is not protect for r in recording.of_type("aws:ecr/repository:Repository"))
    database = only(recording.of_type("aws:rds/instance:Instance")).inputs
    assert database["deletionProtection"] is protect
    assert database["skipFinalSnapshot"] is not protect
    assert ("finalSnapshotIdentifier" in database) is protect


def test_prod_is_protected(prod: Recording) -> None:
    assert only(prod.of_type("aws:rds/instance:Instance")).inputs["multiAz"] is True
    assert len(prod.of_type("aws:ec2/flowLog:FlowLog")) == 1


def test_the_database_is_backed_up_watched_and_grows(recording: Recording) -> None:
    database = only(recording.of_type("aws:rds/instance:Instance")).inputs
    assert database["backupRetentionPeriod"] >= 1
    assert database["performanceInsightsEnabled"] is True
    assert database["maxAllocatedStorage"] > database["allocatedStorage"]
    assert database["copyTagsToSnapshot"] is True


# Names and tags

LIMITED: dict[str, tuple[str, int, str]] = {
    "aws:s3/bucket:Bucket": ("bucket", Limit.BUCKET, r"[a-z0-9][a-z0-9-]+[a-z0-9]"),
    "aws:iam/role:Role": ("name", Limit.ROLE, r"[\w+=,.@-]+"),
    "aws:eks/cluster:Cluster": ("name", Limit.CLUSTER, r"[0-9A-Za-z][A-Za-z0-9_-]*"),
    "aws:rds/instance:Instance": ("identifier", Limit.DATABASE, r"[a-z](-?[a-z0-9])*"),
    "aws:rds/subnetGroup:SubnetGroup": ("name", Limit.SUBNET_GROUP, r"[a-z0-9-]+"),
    "aws:rds/parameterGroup:ParameterGroup": ("name", Limit.SUBNET_GROUP, r"[a-z](-?[a-z0-9])*"),
    "aws:ecr/repository:Repository": (
        "name",
        Limit.REPOSITORY,
        r"[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*",
    ),
    "aws:budgets/budget:Budget": ("name", Limit.BUDGET, r"[^:\\]+"),
    "aws:cloudwatch/metricAlarm:MetricAlarm": ("name", Limit.ALARM, r"[\w.:/ -]+"),
    "aws:sns/topic:Topic": ("name", Limit.TOPIC, r"[\w-]+"),
    "aws:kms/alias:Alias": ("name", Limit.ALIAS, r"alias/[a-zA-Z0-9/_-]+"),
    "aws:ec2/securityGroup:SecurityGroup": ("name", Limit.SECURITY_GROUP, r"(?!sg-)[\w .:/()#,@\[\]+=&;{}!$*-]+"),
    "aws:secretsmanager/secret:Secret": ("name", Limit.SECRET, r"[\w/+=.@-]+"),
    "aws:cloudwatch/logGroup:LogGroup": ("name", Limit.LOG_GROUP, r"[\w/.#-]+"),
}

# Resources without a name, or with a name within another resource.
UNNAMED = {
    "aws:cloudwatch/logGroup:LogGroup",
    "aws:iam/rolePolicy:RolePolicy",
    "random:index/randomPassword:RandomPassword",
}


def test_every_name_derives_from_project_and_stack_and_fits(recording: Recording) -> None:
    for resource in custom(recording, "aws:"):
        if resource.type in LIMITED:
            key, limit, form = LIMITED[resource.type]
            name = resource.inputs[key]
            assert f"airflow-{recording.stack}" in name, resource.urn
            assert len(name) <= limit, resource.urn
            assert re.fullmatch(form, name), resource.urn
        elif resource.type not in UNNAMED:
            assert "name" not in resource.inputs, f"{resource.type} needs a rule for its name"


def test_no_two_resources_of_a_type_have_the_same_name(recording: Recording) -> None:
    for type_, (key, _, _) in LIMITED.items():
        names = [resource.inputs[key] for resource in recording.of_type(type_)]
        assert len(set(names)) == len(names)


def test_descriptions_of_security_groups_have_only_characters_that_ec2_accepts(recording: Recording) -> None:
    # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html
    described = [r for r in custom(recording, "aws:") if "ecurityGroup" in r.type and "description" in r.inputs]
    assert described
    for resource in described:
        assert re.fullmatch(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}", resource.inputs["description"])


def test_changes_of_the_database_take_effect_when_the_settings_say_so(recording: Recording, settings: Settings) -> None:
    database = only(recording.of_type("aws:rds/instance:Instance"))
    assert database.inputs["applyImmediately"] is (settings.database.apply_changes == "immediately")


def test_each_database_leaves_a_final_snapshot_with_another_name(recording: Recording, settings: Settings) -> None:
    database = only(recording.of_type("aws:rds/instance:Instance"))
    suffixes = recording.of_type("random:index/randomString:RandomString")
    assert len(suffixes) == settings.protect
    for suffix in suffixes:
        assert suffix.urn in database.dependencies
        assert database.inputs["finalSnapshotIdentifier"] != f"{database.inputs['identifier']}-final"


def test_the_provider_tags_every_resource(recording: Recording, settings: Settings) -> None:
    provider = only(recording.of_type("pulumi:providers:aws"))
    tags = json.loads(provider.inputs["defaultTags"])["tags"]
    assert tags.keys() == STABLE_TAGS
    assert tags["stack"] == recording.stack
    assert tags["owner"] == settings.owner
    assert tags["cost-center"] == settings.cost_center
    assert all(resource.provider.endswith("::aws") for resource in custom(recording, "aws:"))


def test_no_resource_overrides_a_tag_of_the_stack(recording: Recording) -> None:
    for resource in custom(recording, "aws:"):
        assert not STABLE_TAGS & (resource.inputs.get("tags") or {}).keys(), resource.urn


def test_resources_of_karpenter_and_the_volume_driver_are_tagged_as_well(recording: Recording) -> None:
    for node_class in recording.of_type("kubernetes:eks.amazonaws.com/v1:NodeClass"):
        assert node_class.inputs["spec"]["tags"].keys() == STABLE_TAGS
    parameters = only(recording.of_type("kubernetes:storage.k8s.io/v1:StorageClass")).inputs["parameters"]
    specified = {v.split("=")[0] for k, v in parameters.items() if k.startswith("tagSpecification_")}
    assert specified == STABLE_TAGS


def test_two_stacks_share_no_name(dev: Recording, prod: Recording) -> None:
    def names(recording: Recording) -> set[str]:
        return {str(r.inputs[LIMITED[r.type][0]]) for r in recording.resources if r.type in LIMITED}

    assert not names(dev) & names(prod)


# IAM

# (resource, action or last part of an ARN): why AWS allows nothing narrower.
NEW = "resources being created have no ID yet; a condition restricts the permission to this cluster"
OWN = "the account administers its own key; without this, the key could become unmanageable"
ITSELF = "in a key policy this is the key itself, whose ARN is not known in advance"
WILDCARDS = {
    ("cluster-key", "kms:*"): OWN,
    ("data-key", "kms:*"): OWN,
    ("cluster-key", "*"): ITSELF,
    ("data-key", "*"): ITSELF,
    **{
        ("cluster-role-tags", f"{kind}/*"): NEW
        for kind in ("fleet", "instance", "launch-template", "network-interface", "spot-instances-request", "volume")
    },
}
# Wildcards that stand for everything in a folder.
FOLDERS = (r"arn:aws:s3:::[a-z0-9-]+/([a-z_]+/)+\*", r"arn:aws:logs:[a-z0-9-]+:\d+:log-group:[\w/-]+:\*")


def policy_statements(recording: Recording) -> Iterator[tuple[Resource, dict[str, Any]]]:
    for resource in recording.resources:
        for key in ("policy", "assumeRolePolicy"):
            if isinstance(text := resource.inputs.get(key), str) and "Statement" in text:
                for statement in json.loads(text)["Statement"]:
                    yield resource, statement


def test_no_policy_has_a_wildcard_without_a_reason(recording: Recording) -> None:
    used = set()
    for resource, statement in policy_statements(recording):
        if statement["Effect"] == "Deny":
            continue
        assert statement.get("Principal") != "*", resource.urn
        if statement.get("Principal") == {"Service": "logging.s3.amazonaws.com"}:
            continue  # S3 itself, to the bucket for access logs
        wild = [action for action in statement["Action"] if "*" in action]
        wild += [
            element.rpartition(":")[2]
            for element in statement.get("Resource", [])
            if "*" in element and not any(re.fullmatch(folder, element) for folder in FOLDERS)
        ]
        for element in wild:
            assert (resource.name, element) in WILDCARDS, f"{resource.urn}: {element}"
            used.add((resource.name, element))
    assert used == WILDCARDS.keys()


def test_every_role_trusts_one_service_on_a_condition_or_is_listed(recording: Recording) -> None:
    # EC2 and EKS send neither source nor account when they assume a role.
    unconditional = {"node-role", "cluster-role"}
    for role in recording.of_type("aws:iam/role:Role"):
        [statement] = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
        assert statement["Principal"].keys() == {"Service"}
        assert ("Condition" in statement) == (role.name not in unconditional), role.name


def test_every_component_and_every_dag_has_an_identity(recording: Recording) -> None:
    associations = recording.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation")
    assert {association.inputs["serviceAccount"] for association in associations} == {
        *("airflow-scheduler", "airflow-api-server", "airflow-triggerer", "airflow-dag-processor", "airflow-task"),
        *("dag-flight-features", "dag-flight-model", "dag-flight-monitor", "dag-flight-scores"),
        *(
            "dag-docs-assistant",
            "dag-docs-index",
            "dag-external-training-sagemaker",
            "dag-image-classifier",
            "dag-smoke-test",
            "mlflow",
            "serving",
        ),
    }
    for association in associations:
        role = only(
            [
                r
                for r in recording.of_type("aws:iam/role:Role")
                if f"role/{r.inputs['name']}" in association.inputs["roleArn"]
            ]
        )
        [statement] = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
        tags = statement["Condition"]["StringEquals"]
        assert tags["aws:RequestTag/kubernetes-service-account"] == association.inputs["serviceAccount"]
        assert tags["aws:RequestTag/kubernetes-namespace"] == association.inputs["namespace"]
        of_tasks = association.inputs["serviceAccount"].startswith(("airflow-task", "dag-"))
        assert association.inputs["namespace"] == ("airflow-tasks" if of_tasks else "airflow")


# Readers


def test_a_reader_sees_every_kind_of_resource_except_secrets(other: Recording, prod: Recording) -> None:
    [entry] = [e.inputs for e in other.of_type("aws:eks/accessEntry:AccessEntry") if "kubernetesGroups" in e.inputs]
    assert entry["principalArn"] == "arn:aws:iam::210987654321:role/github-read"
    assert not any(
        association.inputs["principalArn"] == entry["principalArn"]
        for association in other.of_type("aws:eks/accessPolicyAssociation:AccessPolicyAssociation")
    )
    [role] = other.of_type("kubernetes:rbac.authorization.k8s.io/v1:ClusterRole")
    [binding] = other.of_type("kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding")
    assert [subject["name"] for subject in binding.inputs["subjects"]] == entry["kubernetesGroups"]
    assert binding.inputs["roleRef"]["name"] == role.inputs["metadata"]["name"]
    rules = role.inputs["rules"]
    assert all(rule["verbs"] == ["get", "list", "watch"] for rule in rules)
    seen = {(rule["apiGroups"][0], kind) for rule in rules for kind in rule["resources"]}
    assert not any("*" in part for one in seen for part in one)
    assert ("", "secrets") not in seen
    for resource in (*other.resources, *prod.resources):
        provider, _, rest = resource.type.partition(":")
        group, _, kind = rest.partition(":")
        if provider == "kubernetes" and kind not in ("Secret", "Chart"):
            group, plural = group.partition("/")[0], kind.lower().removesuffix("y") + "ies" * kind.endswith("y")
            plural += "es" * kind.endswith("ss") + "s" * (not kind.endswith(("y", "ss")))
            assert ("" if group == "core" else group, plural) in seen, resource.type


def test_without_readers_there_are_no_other_access_entries(dev: Recording) -> None:
    assert dev.of_type("kubernetes:rbac.authorization.k8s.io/v1:ClusterRole") == []
    assert not any("kubernetesGroups" in e.inputs for e in dev.of_type("aws:eks/accessEntry:AccessEntry"))


def test_preview_images_have_separate_repositories_if_previews_are_allowed(dev: Recording, prod: Recording) -> None:
    def names(recording: Recording) -> set[str]:
        return {one.inputs["name"] for one in recording.of_type("aws:ecr/repository:Repository")}

    images = {"airflow", "ml", "mlflow", "serving"}
    assert names(dev) == {f"airflow-dev/{path}{name}" for name in images for path in ("", "previews/")}
    assert names(prod) == {f"airflow-prod/{name}" for name in images}
    for repository in dev.of_type("aws:ecr/repository:Repository"):
        assert repository.inputs["imageTagMutability"] == "IMMUTABLE"
    assert dev.exports["preview_image_repositories"].keys() == images
    assert prod.exports["preview_image_repositories"] == {}


# Databases


def test_every_database_has_an_owner_whose_access_is_in_secrets_manager(dev: Recording) -> None:
    stored = {one.inputs["name"]: one.inputs for one in dev.of_type("aws:secretsmanager/secret:Secret")}
    assert stored.keys() == {f"airflow-dev/database/{name}" for name in ("admin", "airflow", "mlflow", "features")}
    description = stored["airflow-dev/database/features"]["description"]
    assert description == "Access of the user features to the database features"
    passwords = {one.name for one in dev.of_type("random:index/randomPassword:RandomPassword")}
    assert passwords >= {"admin-password", "airflow-password", "mlflow-password", "features-password"}


# Outputs


def test_the_outputs_are_those_that_commands_and_other_stacks_use(recording: Recording) -> None:
    assert recording.exports.keys() == {
        *("region", "account_id", "vpc_id", "private_subnet_ids", "cluster_name", "cluster_arn", "kubeconfig"),
        *("namespace", "data_bucket", "artifacts_bucket", "logs_bucket", "data_key_arn"),
        *("database_host", "database_secret_arns", "database_admin_password"),
        *(
            "image_repositories",
            "preview_image_repositories",
            "role_arns",
            "job_role_arns",
            "airflow_service",
            "airflow_admin_secret",
            "model_registry_url",
        ),
    }


# Optional settings


def test_only_the_administrators_in_the_settings_and_the_deployment_role_administer_the_cluster(
    other: Recording,
) -> None:
    associations = other.of_type("aws:eks/accessPolicyAssociation:AccessPolicyAssociation")
    admins = {a.inputs["principalArn"] for a in associations if a.inputs["policyArn"].endswith("ClusterAdminPolicy")}
    assert admins == {"arn:aws:iam::210987654321:role/people/admin", "arn:aws:iam::210987654321:role/deploy"}
    cluster = only(other.of_type("aws:eks/cluster:Cluster")).inputs
    assert cluster["accessConfig"]["bootstrapClusterCreatorAdminPermissions"] is False


def test_every_role_has_the_boundary_in_the_settings(other: Recording, dev: Recording) -> None:
    bounded, unbounded = (recording.of_type("aws:iam/role:Role") for recording in (other, dev))
    assert {role.inputs.get("permissionsBoundary") for role in bounded} == {"arn:aws:iam::210987654321:policy/boundary"}
    assert {role.inputs.get("permissionsBoundary") for role in unbounded} == {None}


def test_without_administrators_in_the_settings_the_creator_administers_the_cluster(dev: Recording) -> None:
    cluster = only(dev.of_type("aws:eks/cluster:Cluster")).inputs
    assert cluster["accessConfig"]["bootstrapClusterCreatorAdminPermissions"] is True


def test_the_provider_uses_the_account_and_the_deployment_role_of_the_settings(
    other: Recording, dev: Recording
) -> None:
    provider = only(other.of_type("pulumi:providers:aws")).inputs
    assert json.loads(provider["allowedAccountIds"]) == ["210987654321"]
    assert json.loads(provider["assumeRoles"]) == [{"roleArn": "arn:aws:iam::210987654321:role/deploy"}]
    assert "allowedAccountIds" not in only(dev.of_type("pulumi:providers:aws")).inputs


def test_interface_endpoints_are_private_and_in_every_zone(other: Recording) -> None:
    endpoints = [e for e in other.of_type("aws:ec2/vpcEndpoint:VpcEndpoint") if e.name != "s3-endpoint"]
    assert {e.inputs["serviceName"] for e in endpoints} == {
        "com.amazonaws.us-east-1.ecr.api",
        "com.amazonaws.us-east-1.sts",
    }
    for endpoint in endpoints:
        assert endpoint.inputs["privateDnsEnabled"] is True
        assert len(endpoint.inputs["subnetIds"]) == 2
        assert all("private" in subnet for subnet in endpoint.inputs["subnetIds"])
        [group] = endpoint.inputs["securityGroupIds"]
        [rule] = [r for r in custom(other, "aws:vpc/") if r.inputs["securityGroupId"] == group]
        assert (rule.inputs["cidrIpv4"], rule.inputs["fromPort"], rule.inputs["toPort"]) == ("10.10.0.0/16", 443, 443)

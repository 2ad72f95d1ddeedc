"""Deterministic, plausible mock responses of AWS and Kubernetes."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.runtime import mocks

from ops.plan.resources import SECRET

ACCOUNT = "123456789012"
TEXT = re.compile(r"Output\[(Optional\[)?(\w+\.)?str\]")
ZONES = "abcdef"
STACK_REFERENCE = "pulumi:pulumi:StackReference"

# ARN formats by type; the default is arn:aws:<service>:<region>:<account>:<type>/<name>.
ARNS = {
    "aws:ecr/repository:Repository": "arn:aws:ecr:{region}:{account}:repository/{name}",
    "aws:eks/cluster:Cluster": "arn:aws:eks:{region}:{account}:cluster/{name}",
    "aws:iam/policy:Policy": "arn:aws:iam::{account}:policy/{name}",
    "aws:iam/role:Role": "arn:aws:iam::{account}:role/{name}",
    "aws:cloudwatch/logGroup:LogGroup": "arn:aws:logs:{region}:{account}:log-group:{name}",
    "aws:cloudwatch/metricAlarm:MetricAlarm": "arn:aws:cloudwatch:{region}:{account}:alarm:{name}",
    "aws:sns/topic:Topic": "arn:aws:sns:{region}:{account}:{name}",
    "aws:rds/instance:Instance": "arn:aws:rds:{region}:{account}:db:{identifier}",
    "aws:s3/bucket:Bucket": "arn:aws:s3:::{bucket}",
    "aws:secretsmanager/secret:Secret": "arn:aws:secretsmanager:{region}:{account}:secret:{name}",
}

# The output that is also the resource's id, for types whose id AWS does not generate.
IDENTITIES = {
    "aws:cloudwatch/logGroup:LogGroup": "name",
    "aws:ecr/repository:Repository": "name",
    "aws:eks/cluster:Cluster": "name",
    "aws:iam/policy:Policy": "arn",
    "aws:iam/role:Role": "name",
    "aws:rds/instance:Instance": "identifier",
    "aws:rds/parameterGroup:ParameterGroup": "name",
    "aws:rds/subnetGroup:SubnetGroup": "name",
    "aws:s3/bucket:Bucket": "bucket",
    "aws:secretsmanager/secret:Secret": "arn",
}


class Cloud(mocks.Mocks):
    """Mocks of AWS and Kubernetes for one account and region."""

    def __init__(self, account: str, region: str, stacks: Mapping[str, Mapping[str, Any]]) -> None:
        """Create the mocks.

        Args:
            account: The id of the AWS account.
            region: The AWS region.
            stacks: The outputs of referenced stacks, by stack name.
        """
        self.account = account
        self.region = region
        self.stacks = stacks

    def create(self, type_: str, name: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the id of a new resource, and the outputs that differ from its inputs."""
        outputs = {}
        for prop, annotation in output_properties(type_).items():
            if prop not in inputs:
                outputs[prop] = _mock_value(prop, annotation, name)
            elif isinstance(inputs[prop], dict) and TEXT.search(annotation):
                # AWS returns a policy that was passed as an object as text.
                outputs[prop] = json.dumps(inputs[prop])
        known = {**inputs, **outputs}
        if "arn" in outputs:
            outputs["arn"] = known["arn"] = self._arn(type_, name, known)
        outputs |= self._structured_outputs(type_, name, known)
        identity = known.get(IDENTITIES.get(type_, ""), f"{_short(type_)}-{name}")
        return str(identity), outputs

    def _arn(self, type_: str, name: str, known: Mapping[str, Any]) -> str:
        service = type_.split(":")[1].split("/", maxsplit=1)[0]
        pattern = ARNS.get(type_, f"arn:aws:{service}:{{region}}:{{account}}:{_short(type_)}/{name}")
        return pattern.format(**{**known, "region": self.region, "account": self.account})

    def _structured_outputs(self, type_: str, name: str, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs whose structure the program depends on."""
        if type_ == "aws:eks/cluster:Cluster":
            return {
                "endpoint": f"https://{name}.eks.{self.region}.amazonaws.com",
                "certificateAuthority": {"data": "Y2VydGlmaWNhdGU="},
                "vpcConfig": {**known["vpcConfig"], "clusterSecurityGroupId": f"sg-{name}"},
            }
        if type_ == "aws:rds/instance:Instance":
            address = f"{known['identifier']}.invented.{self.region}.rds.amazonaws.com"
            return {"address": address, "port": 5432, "endpoint": f"{address}:5432"}
        if type_ == "aws:ecr/repository:Repository":
            return {"repositoryUrl": f"{self.account}.dkr.ecr.{self.region}.amazonaws.com/{known['name']}"}
        if type_.startswith("random:"):
            length = int(known["length"])
            text = f"{name}-".ljust(length, "x")[:length]
            return {"result": text, "base64": base64.b64encode(text.encode()).decode()}
        if type_.startswith("kubernetes:"):
            return {"metadata": {"name": name, **(known["metadata"] or {})}}
        return {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Mock reading an existing resource or a stack reference."""
        if args.typ == STACK_REFERENCE:
            outputs = self.stacks[args.name.rpartition("/")[2]]
            secret = [name for name, value in outputs.items() if SECRET in json.dumps(value)]
            return args.name, {"name": args.name, "outputs": dict(outputs), "secretOutputNames": secret}
        identity, outputs = self.create(args.typ, args.name, args.inputs)
        return args.resource_id or identity, args.inputs | outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Mock a provider function.

        Raises:
            LookupError: The function has no mock.
        """
        answer: dict[str, Any]
        region, zones = self.region, [f"{self.region}{letter}" for letter in ZONES]
        match args.token.rsplit(":", 1)[1]:
            case "getCallerIdentity":
                user = f"arn:aws:iam::{self.account}:user/plan"
                answer = {"id": self.account, "accountId": self.account, "userId": "AIDAPLAN", "arn": user}
            case "getRegion":
                answer = {"id": region, "name": region, "region": region, "description": region}
            case "getPartition":
                names = {"dnsSuffix": "amazonaws.com", "reverseDnsPrefix": "com.amazonaws"}
                answer = {"id": "aws", "partition": "aws", **names}
            case "getAvailabilityZones":
                answer = {"id": region, "names": zones, "zoneIds": zones, "groupNames": [region] * len(zones)}
            case _:
                raise LookupError(f"the plan has no mock for {args.token}: add one to Cloud.call in ops/plan/cloud.py")
        return {**args.args, **answer}, []


def output_properties(type_: str) -> dict[str, str]:
    """Return the outputs of a resource type, by the provider's names, with the types that its Python class declares."""
    cls = _classes().get(type_)
    members = vars(cls).items() if cls else ()
    getters = {name: member.fget for name, member in members if isinstance(member, property)}
    return {
        getattr(getter, "_pulumi_name", name): str(getter.__annotations__.get("return", ""))
        for name, getter in getters.items()
        if getter is not None
    }


def _classes() -> dict[str, type]:
    """Return the imported resource classes by type token."""
    found, queue = {}, list(pulumi.CustomResource.__subclasses__())
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        if token := vars(cls).get("pulumi_type"):
            found[token] = cls
    return found


def _mock_value(prop: str, annotation: str, name: str) -> Any:
    """Return a value of the declared type, or None for an optional one."""
    if prop in ("name", "bucket", "identifier"):
        return name
    if "Optional" in annotation and prop != "arn":
        return None
    text = f"{name}-{prop}"
    values = {"Sequence": [], "Mapping": {}, "bool": False, "int": 1, "float": 1.0, "str": text}
    return next((value for mark, value in values.items() if mark in annotation), None)


def _short(type_: str) -> str:
    return type_.rsplit(":", 1)[1].lower()

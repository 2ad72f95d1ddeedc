"""A stack's Kubernetes objects, including those of Helm charts, as they would be sent to the API server."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from helm_python import Chart

from ops.plan.resources import Recording, Resource

CHART_TYPE = "kubernetes:helm.sh/v4:Chart"
KUBERNETES = "kubernetes:"

Object = dict[str, Any]


def objects(recording: Recording) -> list[Object]:
    """Return the objects that the program creates directly, then those of its charts."""
    charts = recording.of_type(CHART_TYPE)
    return own_objects(recording) + [item for chart in charts for item in rendered(chart.inputs)]


def own_objects(recording: Recording) -> list[Object]:
    """Return the objects that the program creates directly."""
    return [_object(resource) for resource in recording.resources if _is_object(resource)]


def rendered(chart: Mapping[str, Any]) -> list[Object]:
    """Render a chart with the inputs of its resource."""
    with Chart.load(chart["chart"]) as loaded:
        files = loaded.render(chart["values"], name=chart["name"], namespace=chart["namespace"])
    return [
        {**item, "metadata": {"namespace": chart["namespace"], **item["metadata"]}}
        for path, text in sorted(files.items())
        if not path.endswith("NOTES.txt")
        for item in yaml.safe_load_all(text)
        if item
    ]


def pods(item: Object) -> Iterator[Mapping[str, Any]]:
    """Yield the specifications of the pods that an object creates."""
    spec = item.get("spec", {})
    match item["kind"]:
        case "Pod":
            yield spec
        case "CronJob":
            yield spec["jobTemplate"]["spec"]["template"]["spec"]
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
            yield spec["template"]["spec"]
        case "ConfigMap" if template := item.get("data", {}).get("pod_template_file.yaml"):
            yield yaml.safe_load(template)["spec"]


def _is_object(resource: Resource) -> bool:
    return resource.custom and resource.type.startswith(KUBERNETES)


def _object(resource: Resource) -> Object:
    # Pulumi generates the name of an object without one at its creation.
    metadata = {"name": resource.name, **resource.inputs.get("metadata", {})}
    return {**resource.inputs, "metadata": metadata}

"""A pod with the image and the keys of tasks, for the data of a test."""

import json

from .stack import TASKS_NAMESPACE, get, kubectl, wait_until


def run(code: str) -> None:
    """Run a Python program in a pod."""
    kubectl("delete", "pod", "data", "-n", TASKS_NAMESPACE, "--ignore-not-found")
    template = get("configmap", "airflow-config")["data"]["pod_template_file.yaml"]
    pod = json.loads(kubectl("create", "--dry-run=client", "-o", "json", "-f", "-", stdin=template))
    pod["metadata"] = {"name": "data", "labels": pod["metadata"]["labels"]}
    pod["spec"]["containers"][0] |= {"image": image(), "command": ["python", "-c", code]}
    kubectl("create", "-n", TASKS_NAMESPACE, "-f", "-", stdin=json.dumps(pod))

    def phase() -> str:
        return str(get("pod", "data", namespace=TASKS_NAMESPACE)["status"]["phase"])

    wait_until(lambda: phase() in ("Succeeded", "Failed"), "the data")
    assert phase() == "Succeeded", kubectl("logs", "data", "-n", TASKS_NAMESPACE)
    kubectl("delete", "pod", "data", "-n", TASKS_NAMESPACE)


def image() -> str:
    """Return the image of tasks."""
    variables = get("deployment", "airflow-scheduler")["spec"]["template"]["spec"]["containers"][0]["env"]
    return next(str(variable["value"]) for variable in variables if variable["name"] == "ML_IMAGE")

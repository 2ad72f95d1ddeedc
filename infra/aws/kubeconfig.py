"""The kubeconfig of an EKS cluster."""

import json


def kubeconfig(arn: str, cluster: str, endpoint: str, certificate: str, region: str, role_arn: str | None) -> str:
    """Return a kubeconfig that gets its tokens from the AWS CLI."""
    arguments = ["eks", "get-token", "--cluster-name", cluster, "--region", region, "--output", "json"]
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": arn, "cluster": {"server": endpoint, "certificate-authority-data": certificate}}],
            "users": [
                {
                    "name": arn,
                    "user": {
                        "exec": {
                            "apiVersion": "client.authentication.k8s.io/v1beta1",
                            "command": "aws",
                            "args": [*arguments, *(["--role-arn", role_arn] if role_arn else [])],
                            "interactiveMode": "Never",
                        }
                    },
                }
            ],
            "contexts": [{"name": cluster, "context": {"cluster": arn, "user": arn}}],
            "current-context": cluster,
        }
    )

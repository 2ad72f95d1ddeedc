"""Security contexts for the Pod Security level `restricted`, with a read-only root file system in addition.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from pulumi_kubernetes.core.v1 import PodSecurityContextArgsDict, SecurityContextArgsDict

CONTAINER: SecurityContextArgsDict = {
    "allow_privilege_escalation": False,
    "read_only_root_filesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod(user_id: int) -> PodSecurityContextArgsDict:
    """Return the security context of a pod that runs as a user who also owns its volumes."""
    return {
        "run_as_non_root": True,
        "run_as_user": user_id,
        "run_as_group": user_id,
        "fs_group": user_id,
        "fs_group_change_policy": "OnRootMismatch",
        "seccomp_profile": {"type": "RuntimeDefault"},
    }

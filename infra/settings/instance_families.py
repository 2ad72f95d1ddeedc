"""The EC2 instance families that EKS Auto Mode supports.

https://docs.aws.amazon.com/eks/latest/userguide/automode-learn-instances.html#auto-supported-instances
"""

from collections.abc import Mapping
from typing import Literal

Architecture = Literal["amd64", "arm64"]
CapacityType = Literal["spot", "on-demand"]
QuotaClass = Literal["standard", "g", "p", "p5", "x"]
Families = Mapping[Architecture, frozenset[str]]

# fmt: off
CPU_FAMILIES: Families = {
    "amd64": frozenset({
        "c4", "c5", "c5a", "c5ad", "c5d", "c5n", "c6a", "c6i", "c6id", "c6in", "c7a", "c7i", "c7i-flex",
        "m4", "m5", "m5a", "m5ad", "m5d", "m5dn", "m5n", "m5zn", "m6a", "m6i", "m6id", "m6idn", "m6in", "m7a", "m7i",
        "m7i-flex",
        "r4", "r5", "r5a", "r5ad", "r5b", "r5d", "r5dn", "r5n", "r6a", "r6i", "r6id", "r6idn", "r6in", "r7a", "r7i",
        "r7iz",
        "t2", "t3", "t3a",
        "d3", "d3en", "i3", "i3en", "i4i", "x2idn", "x2iedn", "x2iezn", "z1d",
    }),
    "arm64": frozenset({
        "c6g", "c6gd", "c6gn", "c7g", "c7gd", "c7gn", "c8g",
        "m6g", "m6gd", "m7g", "m7gd", "m8g",
        "r6g", "r6gd", "r7g", "r7gd", "r8g",
        "t4g",
        "i4g", "im4gn", "is4gen", "x2gd", "x8g",
    }),
}

# Only families with NVIDIA GPUs: `nvidia.com/gpu` and CUDA in the images need them.
GPU_FAMILIES: Families = {
    "amd64": frozenset({"g4dn", "g5", "g6", "g6e", "gr6", "p3", "p3dn", "p4d", "p5"}),
    "arm64": frozenset({"g5g"}),
}
# fmt: on


def quota_class(family: str, capacity_type: CapacityType) -> QuotaClass:
    """Return the vCPU quota of a family: https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html."""
    if family.startswith("p5") and capacity_type == "spot":
        return "p5"
    match family[0]:
        case "g" | "p" | "x" as letter:
            return letter
        case _:
            return "standard"

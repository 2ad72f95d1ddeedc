"""Draw a stack's architecture as SVG. Colors are CSS variables of the page, so that it supports light and dark mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ops.plan.architecture import Architecture, Bucket, Cluster, Pool, Zone

WIDTH = 1160
MARGIN = 24
GAP = 16
LINE = 18
HEAD = 44
SIDE = 300  # the width of the column right of the VPC
INNER = WIDTH - SIDE - 3 * MARGIN  # the width of the VPC
SUBNET = 78


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and lines of text."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    lines: Sequence[str] = ()

    def svg(self) -> Iterator[str]:
        """Yield the SVG elements of the box."""
        yield f'<g class="box {self.kind}">'
        yield f'<rect x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" height="{self.height:g}" rx="8"/>'
        yield _text(self.x + 14, self.y + 24, self.title, "title", self.width - 28)
        for number, line in enumerate(self.lines):
            yield _text(self.x + 14, self.y + HEAD + LINE * number, line, "line", self.width - 28)
        yield "</g>"


def diagram(architecture: Architecture) -> str:
    """Return the drawing: on the left the VPC with zones, cluster and database, on the right everything outside it."""
    boxes, height = _boxes(architecture)
    body = "".join(element for box in boxes for element in box.svg())
    label = f"Architecture of the VPC {architecture.vpc} and the stack's other resources"
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">{body}</svg>'


def _boxes(architecture: Architecture) -> tuple[list[Box], float]:
    left = MARGIN
    top = float(MARGIN)
    inside: list[Box] = []
    y = top + 2 * HEAD - 24
    zone_boxes, zone_height = _zones(architecture.zones, left + GAP, y)
    inside += zone_boxes
    y += zone_height + GAP
    if architecture.cluster:
        cluster_boxes, cluster_height = _cluster(architecture.cluster, architecture.identities, left + GAP, y)
        inside += cluster_boxes
        y += cluster_height + GAP
    if architecture.database:
        database = architecture.database
        standby = "standby in a second zone" if database.copies > 1 else "one zone"
        lines = [f"{database.version} on {database.instance_class}, {standby}, {database.storage}"]
        lines.append("reachable only from the cluster" + (", protected from deletion" if database.protect else ""))
        height = HEAD + LINE * len(lines)
        inside.append(Box(left + GAP, y, INNER - 2 * GAP, height, "data", f"RDS {database.name}", lines))
        y += height + GAP
    endpoints = f"endpoints: {', '.join(architecture.endpoints) or 'none'}"
    logs = "flow logs" if architecture.flow_logs else "no flow logs"
    vpc = Box(
        left, top, INNER, y - top, "network", f"VPC {architecture.vpc}  {architecture.cidr}", [f"{endpoints}; {logs}"]
    )
    outside, bottom = _outside(architecture, left + INNER + MARGIN, top)
    return [vpc, *inside, *outside], max(y, bottom) + MARGIN


def _zones(zones: Sequence[Zone], x: float, y: float) -> tuple[list[Box], float]:
    if not zones:
        return [], 0
    width = (INNER - 2 * GAP - GAP * (len(zones) - 1)) / len(zones)
    height = HEAD + 2 * SUBNET + GAP - 4
    boxes = []
    for index, zone in enumerate(zones):
        left = x + index * (width + GAP)
        boxes.append(Box(left, y, width, height, "zone", zone.name))
        gateway = "NAT gateway, load balancers" if zone.nat else "load balancers"
        public = [", ".join(zone.public), gateway]
        boxes.append(Box(left + 10, y + HEAD - 8, width - 20, SUBNET, "public", "public subnet", public))
        private = [", ".join(zone.private), "nodes, pods, database"]
        boxes.append(Box(left + 10, y + HEAD + SUBNET - 2, width - 20, SUBNET, "private", "private subnet", private))
    return boxes, height


def _cluster(cluster: Cluster, identities: Sequence[str], x: float, y: float) -> tuple[list[Box], float]:
    width = INNER - 2 * GAP
    pool_top = y + HEAD + LINE
    pool_height = HEAD + 3 * LINE + 4
    pool_width = (width - 2 * GAP - GAP * (len(cluster.pools) - 1)) / max(len(cluster.pools), 1)
    pools = [
        Box(x + GAP + index * (pool_width + GAP), pool_top, pool_width, pool_height, "gpu" if pool.gpu else "pool",
            f"node pool {pool.name}", _pool_lines(pool))
        for index, pool in enumerate(cluster.pools)
    ]  # fmt: skip
    chips_top = pool_top + pool_height + GAP
    chips, chips_height = _chips(identities, x + GAP, chips_top, width - 2 * GAP)
    height = chips_top + chips_height + GAP - y
    title = f"EKS {cluster.name}  Kubernetes {cluster.version}, Auto Mode"
    return [Box(x, y, width, height, "cluster", title, [cluster.endpoint]), *pools, *chips], height


def _pool_lines(pool: Pool) -> list[str]:
    limits = ", ".join(f"{value} {name.removeprefix('nvidia.com/')}" for name, value in pool.limits.items())
    return [
        f"{', '.join(pool.families)} ({pool.architecture})",
        f"{' or '.join(pool.capacity)}, {pool.disk_gib:g} GiB disk each",
        f"from 0 to {limits}" + ("; GPU pods only" if pool.gpu else ""),
    ]


def _chips(names: Sequence[str], x: float, y: float, width: float) -> tuple[list[Box], float]:
    """Lay out one small box per identity, four in a row."""
    per_row = 4
    chip_width = (width - GAP * (per_row - 1)) / per_row
    rows = -(-len(names) // per_row)
    boxes = [
        Box(x + (index % per_row) * (chip_width + GAP), y + (index // per_row) * 46, chip_width, 38, "identity", name)
        for index, name in enumerate(names)
    ]
    return boxes, rows * 46


def _outside(architecture: Architecture, x: float, y: float) -> tuple[list[Box], float]:
    groups = [
        ("data", "S3 buckets", [_bucket_line(bucket) for bucket in architecture.buckets]),
        ("registry", "ECR repositories", list(architecture.repositories)),
        ("key", "KMS keys", list(architecture.keys)),
        ("key", "Secrets Manager", list(architecture.secrets)),
        ("identity", "IAM roles", list(architecture.roles)),
    ]
    boxes = []
    for kind, title, lines in groups:
        if lines:
            height = HEAD + LINE * len(lines)
            boxes.append(Box(x, y, SIDE, height, kind, f"{title} ({len(lines)})", lines))
            y += height + GAP
    return boxes, y


def _bucket_line(bucket: Bucket) -> str:
    return bucket.name if bucket.versioned else f"{bucket.name} (not versioned)"


def _text(x: float, y: float, text: str, kind: str, width: float) -> str:
    """Return a text element, condensed if it would be wider than its box."""
    per_character = 8.2 if kind == "title" else 7.0
    squeezed = f' textLength="{width:g}" lengthAdjust="spacingAndGlyphs"' if len(text) * per_character > width else ""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}"{squeezed}>{escape(text)}</text>'

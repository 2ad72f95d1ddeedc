"""A small image that is pushed to a registry on this machine."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from infra.release import ReleasedImage
from ops.images.oci import OciRegistry

TAG = "0123456789abcdef"


def image_folder(folder: Path, text: str) -> Path:
    """Write an image with one small file in the OCI layout."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        entry = tarfile.TarInfo("word")
        entry.size = len(text)
        files.addfile(entry, io.BytesIO(text.encode()))
    diff = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]}}
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(gzip.compress(layer.getvalue(), mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    described = blob(json.dumps(manifest).encode(), kind)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def push(folder: Path, registry: OciRegistry, name: str = "ml", tag: str = TAG, text: str = "hello") -> ReleasedImage:
    repository = registry.repository(name)
    source = image_folder(folder / f"{name}-{tag[:8]}-{text}", text)
    command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{source}", f"docker://{repository}:{tag}"]
    subprocess.run(command, check=True)
    [described] = json.loads((source / "index.json").read_text())["manifests"]
    return ReleasedImage(repository=repository, tag=tag, digest=described["digest"])

"""The step that finds the images of a dataset."""

import logging
from collections import Counter
from functools import partial
from hashlib import sha256

from image_classifier import keys
from image_classifier.dataset import (
    LabelledImage,
    label_of,
    manifest_of,
    require_class_folders,
    require_enough_images,
)
from image_classifier.images import MAX_BYTES, TOO_MANY_BYTES, UnreadableImageError, decode
from image_classifier.outputs import Dataset
from ml_common.object_store import MANIFEST, Bucket, StoredObject, artifacts_bucket, data_bucket
from ml_common.parallel import parallel_map

log = logging.getLogger(__name__)

QUARANTINE = "quarantine/"
REASON = "reason"


def validate(prefix: str) -> Dataset:
    """Find the readable images under `prefix` of the data bucket and move unreadable files to quarantine.

    Raises:
        PermanentError: The remaining images are not a dataset.
    """
    bucket = data_bucket()
    objects = [found for found in bucket.list(prefix) if not found.key.endswith("/")]
    require_class_folders((found.key for found in objects), prefix, bucket.uri(prefix))
    checked = parallel_map(partial(_check, bucket, prefix), objects)
    images = [image for image in checked if image is not None]
    quarantined = _quarantined(bucket, prefix, {image.key for image in images})
    for reason, count in quarantined.items():
        log.warning("%d files are in quarantine under %s: %s.", count, bucket.uri(QUARANTINE + prefix), reason)
    require_enough_images(images, {str(label_of(found.key, prefix)) for found in objects})
    manifest = manifest_of(images)
    fingerprint = str(manifest["fingerprint"])
    artifacts_bucket().put_json(keys.dataset_folder(fingerprint) + MANIFEST, manifest)
    return Dataset(fingerprint=fingerprint, quarantined=quarantined)


def _check(bucket: Bucket, prefix: str, found: StoredObject) -> LabelledImage | None:
    try:
        if found.size > MAX_BYTES:
            raise UnreadableImageError(TOO_MANY_BYTES)
        data = bucket.get(found.key)
        decode(data)
    except UnreadableImageError as error:
        bucket.move(found.key, QUARANTINE + found.key, {REASON: str(error)})
        log.warning("Moved %s to quarantine: %s.", found.key, error)
        return None
    return LabelledImage(found.key, sha256(data).hexdigest(), str(label_of(found.key, prefix)))


def _quarantined(bucket: Bucket, prefix: str, readable: set[str]) -> dict[str, int]:
    """Count the files in quarantine by reason, except those whose original key has a readable image again."""
    stored = [found.key for found in bucket.list(QUARANTINE + prefix)]
    waiting = [key for key in stored if key.removeprefix(QUARANTINE) not in readable]
    reasons = parallel_map(lambda key: bucket.metadata(key).get(REASON, "unknown"), waiting)
    return dict(sorted(Counter(reasons).items()))

"""Move old raw files to a cheaper storage class, in which they can still be read at once."""

import logging
import re
from datetime import date, timedelta

from ml_common.object_store import data_bucket
from ml_common.parallel import parallel_map

log = logging.getLogger(__name__)

FOLDER = "flight_features/raw/"
DAY = re.compile(r"/(\d{4}-\d{2}-\d{2})\.csv$")


def archive(end: date, cold_after_days: int, storage_class: str) -> int:
    """Give the files of days that are older than `cold_after_days` at `end` a storage class; return how many changed.

    A store that does not have the class keeps the files as they are.
    """
    bucket = data_bucket()
    before = str(end - timedelta(days=cold_after_days))
    old = [
        entry.key
        for entry in bucket.list(FOLDER)
        if (day := DAY.search(entry.key)) and day[1] < before and entry.storage_class != storage_class
    ]
    if not all(parallel_map(lambda key: bucket.set_storage_class(key, storage_class), old)):
        log.warning(
            "%s does not have the storage class %s, so the files stay as they are.", bucket.uri(FOLDER), storage_class
        )
        return 0
    log.info("%d files of days before %s in %s are now %s.", len(old), before, bucket.uri(FOLDER), storage_class)
    return len(old)

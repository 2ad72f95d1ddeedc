"""Names of metrics that MLflow accepts for any class name."""

import re
from hashlib import sha256

# mlflow/utils/validation.py accepts letters and digits of any script and "_.- :/". A slash would make a path, which
# must be in normal form, and the colon is the escape character here.
REFUSED = re.compile(r"[^\w.\- ]")
MAX_LENGTH = 250
DIGEST_LENGTH = 16


def metric_name(name: str) -> str:
    """Return a name that MLflow accepts, different for each `name`.

    A character that MLflow refuses becomes `:<hexadecimal code point>:`. The end of a name that is too long for MLflow
    is replaced by a digest of the whole name.
    """
    legal = REFUSED.sub(lambda match: f":{ord(match[0]):x}:", name)
    if len(legal) <= MAX_LENGTH:
        return legal
    digest = sha256(name.encode()).hexdigest()[:DIGEST_LENGTH]
    return f"{legal[: MAX_LENGTH - DIGEST_LENGTH - 1]}:{digest}"

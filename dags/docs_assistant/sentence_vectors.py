"""The vectors of sentences, each calculated once: different questions and answers have passages in common."""

from collections.abc import Sequence
from threading import Lock

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from docs_assistant.models import Embed

# 1.5 KiB each.
KEPT = 20_000


class SentenceVectors:
    """Embeds texts, and keeps the vectors of the last ones; threads may share it."""

    def __init__(self, embed: Embed, kept: int = KEPT) -> None:
        self._embed = embed
        self._vectors: LRUCache[str, NDArray[np.float32]] = LRUCache(kept)
        self._lock = Lock()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vector of each text, [N, D]."""
        with self._lock:
            found = {text: self._vectors[text] for text in set(texts) if text in self._vectors}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            found |= dict(zip(missing, self._embed(missing), strict=True))
            with self._lock:
                self._vectors.update((text, found[text]) for text in missing)
        return np.stack([found[text] for text in texts])

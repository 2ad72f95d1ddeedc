"""The state of a training in progress, from which the next try continues if a node is lost, such as a Spot node."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Protocol

import torch
from torch import Tensor

from ml_common.object_store import Bucket

log = logging.getLogger(__name__)

# The most that an interruption costs, besides one epoch; a short training is not slowed down.
INTERVAL_SECONDS = 300.0


class Part(Protocol):
    """A part of the state: the network, the optimiser or the schedule."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Restore the state."""


@dataclass
class SavedTraining:
    """The object that holds the state."""

    bucket: Bucket
    key: str
    _saved_at: float = field(default_factory=time.monotonic)

    def restore(self, parts: Mapping[str, Part], rank: int) -> list[dict[str, Any]]:
        """Restore the parts and a process' random numbers; return the finished epochs, none if no state is saved."""
        if not self.bucket.exists(self.key):
            return []
        state = torch.load(BytesIO(self.bucket.get(self.key)), map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"][rank])
        epochs: list[dict[str, Any]] = state["epochs"]
        log.info("Continuing after epoch %d, which an earlier try saved.", len(epochs))
        return epochs

    def save(self, parts: Mapping[str, Part], epochs: Sequence[Mapping[str, Any]], random: Sequence[Tensor]) -> None:
        """Save the state with the random numbers of each process, unless it was saved a moment ago."""
        if time.monotonic() - self._saved_at < INTERVAL_SECONDS:
            return
        state = {name: part.state_dict() for name, part in parts.items()}
        content = BytesIO()
        torch.save({**state, "random": list(random), "epochs": list(epochs)}, content)
        self.bucket.put(self.key, content.getvalue())
        self._saved_at = time.monotonic()

    def discard(self) -> None:
        """Delete the state if there is one."""
        if self.bucket.exists(self.key):
            self.bucket.delete(self.key)

"""The model as MLflow serves it: image files in, the probabilities of the classes out.

Every registered version carries this file and the code that it imports.
"""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from image_classifier.image_decoder import DecoderStoppedError, ImageDecoder
from image_classifier.images import TOO_MANY_BYTES, TOO_MANY_PIXELS, TOO_MUCH_MEMORY, UnreadableImageError
from image_classifier.model import Classifier
from ml_common.device import cpu
from ml_common.parallel import ahead
from ml_common.serving import failure

WEIGHTS = "weights"

# A single image is not faster with more threads.
TORCH_THREADS = 1

# Images that are classified at once, while the next ones are decoded.
CHUNK = 4

# An image waits at most this long for those before it in the batch.
WAIT_SECONDS = 10

TOO_LARGE = {TOO_MANY_BYTES, TOO_MANY_PIXELS, TOO_MUCH_MEMORY}
BUSY = "The server is busy with other images; send this one again in a second."

Prediction = dict[str, Any]


class ImageClassifier(PythonModel):  # type: ignore[misc] # MLflow has no types
    """Decodes images in a separate process and classifies them in this one."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights and start the decoding process, so that the first image need not wait for it."""
        self.decoder = ImageDecoder()
        self.classifier = Classifier.from_file(Path(context.artifacts[WEIGHTS])).to(cpu(TORCH_THREADS))

    def predict(self, model_input: list[bytes]) -> list[dict[str, Any]]:
        """Return `class`, `probability` and `probabilities` for each image file, or a failure."""
        decode = partial(self._decode, until=time.monotonic() + WAIT_SECONDS)
        chunks = [model_input[start : start + CHUNK] for start in range(0, len(model_input), CHUNK)]
        return [prediction for decoded in ahead(decode, chunks) for prediction in self._classify(decoded)]

    def _decode(self, files: list[bytes], until: float) -> list[np.ndarray | Prediction]:
        return [self._decode_one(file, until) for file in files]

    def _decode_one(self, file: bytes, until: float) -> np.ndarray | Prediction:
        """Decode a file to uint8 [image_size, image_size, 3], or return the failure."""
        if time.monotonic() > until:
            return failure(503, BUSY)
        try:
            return self.decoder.decode(file, self.classifier.image_size)
        except UnreadableImageError as error:
            return failure(413 if str(error) in TOO_LARGE else 422, sentence(str(error)))
        except DecoderStoppedError:
            return failure(503, BUSY)

    def _classify(self, decoded: list[np.ndarray | Prediction]) -> Iterator[Prediction]:
        images = [image for image in decoded if isinstance(image, np.ndarray)]
        probabilities = iter(self.classifier.classify_pixels(np.stack(images)) if images else ())
        for item in decoded:
            yield _prediction(next(probabilities)) if isinstance(item, np.ndarray) else item


def _prediction(probabilities: dict[str, float]) -> Prediction:
    best = max(probabilities, key=lambda name: probabilities[name])
    return {"class": best, "probability": probabilities[best], "probabilities": probabilities}


def sentence(reason: str) -> str:
    """Return the error message for a client's file."""
    return f"{reason[0].upper()}{reason[1:]}; send a smaller or another image file."


set_model(ImageClassifier())

"""Measure the memory of the image classifier's tasks: `make bench-memory`. Prints results without asserts.

Each step runs in its own process, like a task, against the laptop's object store in a temporary home. The limit is 1.5
GiB, because a task's pod has 2 GiB and Airflow needs a part of it.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infra import computing
from ops.laptop import object_store
from ops.laptop.home import Home
from tests.laptop import s3_server

REPOSITORY = Path(__file__).resolve().parent.parent
IMAGES = (5_000, 50_000)
SIDE = 224
ARCHITECTURES = ("resnet18", "resnet34", "resnet50")
PHOTOS = 16
PHOTO_SIZE = (8000, 6000)
PHOTO_BYTES = 19 * 1024**2
TRAINING_SECONDS = 180
BUCKETS = {"DATA_BUCKET": "airflow-data", "ARTIFACTS_BUCKET": "airflow-artifacts"}

STEP = """
import json, signal, sys, time
from pathlib import Path

def stop(*_):
    raise TimeoutError

def measure(fingerprint, image_size, architecture):
    from image_classifier import keys, networks
    from image_classifier.model import Classifier
    bucket = steps.artifacts_bucket()
    classes = tuple(sorted(bucket.get_json(keys.dataset_folder(fingerprint) + steps.MANIFEST)["classes"]))
    weights = Classifier(networks.create(architecture, len(classes)), architecture, classes, image_size).to_bytes()
    bucket.put(keys.model_folder("bench") + steps.WEIGHTS, weights)
    trained = {"training_key": "bench", "fingerprint": fingerprint, "image_size": image_size}
    steps._measure(bucket, trained, "bench/evaluation/")

def chosen(architecture, image_size=32):
    from image_classifier.parameters import Parameters
    return Parameters("", architecture, "none", image_size, 1, 0.001, 64, 0.5, 0, 1, None, None)

def base_checkpoint(architecture):
    return steps.base_checkpoint(chosen(architecture))

def train(fingerprint, image_size, architecture, checkpoint, seconds):
    from image_classifier import keys
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        tensors = keys.tensors_folder(fingerprint, image_size)
        steps.train(fingerprint, tensors, checkpoint, chosen(architecture, image_size))
    except TimeoutError:
        pass

def picture(count):
    from image_classifier import pictures
    names = [f"class {number}" for number in range(count)]
    pictures.confusion_picture(names, names[::-1], names)

began = time.monotonic()
from image_classifier import steps, validation
step = {"base_checkpoint": base_checkpoint, "validate": validation.validate, "preprocess": steps.preprocess,
        "train": train, "evaluate": measure, "picture": picture}[sys.argv[1]]
result = step(*json.loads(sys.argv[2]))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({"result": result, "seconds": time.monotonic() - began, "kib": int(status["VmHWM"].split()[0])}))
"""


def main() -> None:
    """Print one line per step."""
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        home = Home(Path(folder, "home"))
        home.create()
        server = s3_server.start(home)
        try:
            measure(object_store.client_environment(home, server.ports["s3"]), server.client)
        finally:
            s3_server.stop(home)


def measure(store_environment: Mapping[str, str], s3: Any) -> None:
    """Print the results for large photos, data sets of several sizes, and a picture of many classes."""
    environment = {
        **os.environ,
        **computing.VARIABLES,
        **store_environment,
        **BUCKETS,
        "PYTHONPATH": str(REPOSITORY / "dags"),
    }

    def step(title: str, name: str, *arguments: object) -> Any:
        command = [sys.executable, "-c", STEP, name, json.dumps(arguments)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        print(f"{title:<26} {name:<15} {figures['kib'] / 1024:5.0f} MiB {figures['seconds']:6.0f} s", flush=True)
        return figures["result"]

    def steps(title: str, prefix: str, architecture: str = ARCHITECTURES[0]) -> None:
        fingerprint = step(title, "validate", prefix)["fingerprint"]
        step(title, "preprocess", fingerprint, SIDE)
        step(title, "train", fingerprint, SIDE, architecture, checkpoints[architecture], TRAINING_SECONDS)
        step(title, "evaluate", fingerprint, SIDE, architecture)

    checkpoints = {name: step(name, "base_checkpoint", name) for name in ARCHITECTURES}
    store(s3, "images/photos/", photos(), PHOTOS, class_count=2)
    steps(f"{PHOTOS} photos of 48 megapixels", "images/photos/")
    for count in IMAGES:
        store(s3, f"images/{count}/", small_images(), count, class_count=10)
        steps(f"{count} images of {SIDE} px", f"images/{count}/")
    for name in ARCHITECTURES[1:]:
        steps(f"{IMAGES[0]} images, {name}", f"images/{IMAGES[0]}/", name)
    for count in (10, 102, 1000):
        step(f"{count} classes", "picture", count)


def store(s3: Any, prefix: str, bases: Sequence[bytes], count: int, class_count: int) -> None:
    """Upload `count` different files to class folders; bytes after the end of an image make the files different."""

    def put(number: int) -> None:
        key = f"{prefix}{number % class_count}/{number}"
        body = bases[number % len(bases)] + str(number).encode()
        s3.put_object(Bucket=BUCKETS["DATA_BUCKET"], Key=key, Body=body)

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(put, range(count)):
            pass


def photos() -> list[bytes]:
    """Return a JPEG and a PNG with transparency of 48 megapixels and nearly the maximum file size."""
    rough = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 4), dtype=np.uint8))
    picture = rough.resize(PHOTO_SIZE, Image.Resampling.NEAREST)
    return [encoded(one, kind).ljust(PHOTO_BYTES) for one, kind in ((picture.convert("RGB"), "JPEG"), (picture, "PNG"))]


def small_images() -> list[bytes]:
    """Return fifty different JPEG files."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (50, 28, 28, 3), dtype=np.uint8)
    return [encoded(Image.fromarray(one).resize((SIDE, SIDE)), "JPEG") for one in pixels]


def encoded(image: Image.Image, kind: str) -> bytes:
    """Return an image as a file."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


if __name__ == "__main__":
    main()

"""The model server with an untrained image classifier. For tests and benchmarks without MLflow's server.

Usage: `python model_server.py PORT`.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.pyfunc
import torch

import serving
from image_classifier import networks, versions
from image_classifier.model import Classifier
from served_model import ServedModel

VERSION = "3"


def write_untrained(folder: Path, classes: tuple[str, ...], image_size: int) -> Classifier:
    """Write the files of a version with random weights to an empty folder."""
    torch.manual_seed(0)
    model = Classifier(networks.create("resnet18", len(classes)).eval(), "resnet18", classes, image_size)
    versions.write_model_files(folder, model.to_bytes(), {})
    return model


def served(folder: Path) -> ServedModel:
    """Load the files of a version as the model server does."""
    return ServedModel(versions.MODEL_NAME, VERSION, mlflow.pyfunc.load_model(str(folder)))


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        write_untrained(Path(name), tuple("abcdefghij"), 224)
        serving.server(serving.create_app(served(Path(name)))).run([serving.listen("127.0.0.1", int(sys.argv[1]))])

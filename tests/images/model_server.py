"""The model server with an untrained model of 224 pixels, for tests and measurements: it needs no MLflow.

Usage: `python model_server.py PORT`.
"""

import sys

import torch

import serving
from image_classifier.model import Classifier
from image_classifier.resnet import ResNet18
from ml_common.device import cpu


def untrained(version: str) -> tuple[Classifier, str]:
    """What `serving.load` gives, without a registry."""
    torch.manual_seed(0)
    model = Classifier(ResNet18(10), tuple("abcdefghij"), 224)
    return model.to(cpu(serving.TORCH_THREADS)), version


if __name__ == "__main__":
    serving.load = untrained
    sys.argv = [sys.argv[0], "--port", sys.argv[1], "--version", "1"]
    serving.main()

"""The model server with an untrained model for images of 224 pixels. For tests and benchmarks without MLflow.

Usage: `python model_server.py PORT`.
"""

import sys

import torch

import serving
from image_classifier import networks
from image_classifier.model import Classifier
from ml_common.device import cpu


def untrained(version: str) -> tuple[Classifier, str]:
    """Stand in for `serving.load`, without a registry."""
    torch.manual_seed(0)
    model = Classifier(networks.create("resnet18", 10), "resnet18", tuple("abcdefghij"), 224)
    return model.to(cpu(serving.TORCH_THREADS)), version


if __name__ == "__main__":
    serving.load = untrained
    sys.argv = [sys.argv[0], "--port", sys.argv[1], "--version", "1"]
    serving.main()

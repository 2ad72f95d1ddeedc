"""The DAG's Params as JSON schemas, against which both Airflow and `make up PARAMS=...` check values."""

from typing import Any

SCHEMAS: dict[str, dict[str, Any]] = {
    "prefix": {
        "default": "images/digits/",
        "type": "string",
        "pattern": "^[^/]+(/[^/]+)*/$",
        "description": 'Folder of the class folders in the data bucket; ends in "/", does not begin with one.',
    },
    "architecture": {
        "default": "resnet18",
        "type": "string",
        "enum": ["resnet18", "resnet34", "resnet50"],
        "description": "Network to train.",
    },
    "weights": {
        "default": "none",
        "type": "string",
        "enum": ["none", "IMAGENET1K_V1"],
        "description": "torchvision's pretrained weights to start from; none: a base checkpoint is trained here.",
    },
    "image_size": {
        "default": 32,
        "type": "integer",
        "minimum": 32,
        "maximum": 512,
        "description": "Side of the images in pixels.",
    },
    "epochs": {
        "default": 6,
        "type": "integer",
        "minimum": 1,
        "maximum": 200,
        "description": "Passes over the training images.",
    },
    "learning_rate": {
        "default": 0.001,
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "description": "Peak learning rate.",
    },
    "batch_size": {
        "default": 64,
        "type": "integer",
        "minimum": 2,
        "maximum": 1024,
        "description": "Images in each training step; smaller for few images.",
    },
    "minimum_accuracy": {
        "default": 0.97,
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "Accuracy on held-out images below which the run fails.",
    },
    "seed": {
        "default": 0,
        "type": "integer",
        "minimum": 0,
        "maximum": 2**31 - 1,
        "description": "The same seed repeats a training exactly on a CPU.",
    },
    "workers": {
        "default": 1,
        "type": "integer",
        "minimum": 1,
        "maximum": 64,
        "description": "Pods that train together, each with the GPUs of `gpus` in dag.yaml; processes on a laptop.",
    },
    "precision": {
        "default": None,
        "type": ["null", "string"],
        "enum": [None, "bfloat16", "float32"],
        "description": "Number format of the training; by default bfloat16 on GPUs that have it, otherwise float32.",
    },
    "base_checkpoint": {
        "default": None,
        "type": ["null", "string"],
        "pattern": r"^[^/].*\.(pth|safetensors)$",
        "description": "Key of your own checkpoint in the artifacts bucket: a state dict of `architecture`.",
    },
}

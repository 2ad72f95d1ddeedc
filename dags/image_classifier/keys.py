"""Where outputs are stored in the artifacts bucket: the same inputs and code always give the same key."""

from collections.abc import Iterable
from pathlib import Path

from ml_common import content_keys

ROOT = "image_classifier/"
PACKAGE = Path(__file__).parent
SHARED = PACKAGE.parent / "ml_common"


def code_version(files: Iterable[Path] | None = None) -> str:
    """Return 16 hex digits over the source of `files`, by default everything that a run uses."""
    return content_keys.code_version([*PACKAGE.glob("*.py"), *SHARED.glob("*.py")] if files is None else files)


def dataset_folder(fingerprint: str) -> str:
    """Return the folder of a dataset's manifest and tensors."""
    return f"{ROOT}datasets/{fingerprint}/"


def tensors_folder(fingerprint: str, image_size: int) -> str:
    """Return the folder of a dataset's tensors, which also depend on the code that decodes and splits."""
    return f"{dataset_folder(fingerprint)}tensors-{image_size}-{code_version()}/"


def base_folder(architecture: str, version: str) -> str:
    """Return the folder of a base checkpoint, trained by one version of the code."""
    return f"{ROOT}base/{architecture}/{version}/"


def pretrained_key(file_name: str) -> str:
    """Return the key of a file with torchvision's pretrained weights."""
    return f"{ROOT}pretrained/{file_name}"


def model_folder(training_key: str) -> str:
    """Return the folder of a trained model and its evaluation."""
    return f"{ROOT}models/{training_key}/"


def report_key(run_id: str) -> str:
    """Return the key of a run's report, without characters such as "+" and ":" of the run's identifier."""
    return f"{ROOT}runs/{''.join(c if c.isalnum() or c in '-_.' else '_' for c in run_id)}/report.json"

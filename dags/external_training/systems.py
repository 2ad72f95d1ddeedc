"""The systems, by the name that a DAG declares."""

from collections.abc import Mapping

from external_training import sagemaker
from external_training.system import System

SYSTEMS: Mapping[str, System] = {"sagemaker": sagemaker.SageMaker()}

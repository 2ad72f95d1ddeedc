"""One version of a registered model, with the code that it carries."""

import json
import logging
import os
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

# MLflow retries for four minutes by default; a pod or a process that fails is restarted.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow
import mlflow.pyfunc
import numpy as np
import pandas as pd
from fastapi import HTTPException
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.types import DataType
from mlflow.utils.proto_json_utils import NumpyEncoder, _get_jsonable_obj
from prometheus_client import Histogram

from request_limits import RETRY

log = logging.getLogger(__name__)

CHAMPION = "champion"
# As in dags/ml_common/serving.py.
UPLOAD_FIELD = "upload_field"
ANSWERS_QUESTIONS = "answers_questions"
FAILURE = {"error", "status"}

SEND_ROWS = (
    "Send a JSON object with one of the fields `inputs`, `instances`, `dataframe_split` and `dataframe_records`, as in "
    "MLflow's scoring protocol."
)
SEND_FILE = "Send the {field} file as the multipart field `{field}`."
FAILED = "The server failed; see its log."
LONGEST_REASON = 500
BUCKETS = (1, 2, 4, 8, 16, 64, 256, 1024)


class StartError(Exception):
    """The model cannot be served; the message says why, and what to do."""


@dataclass(frozen=True)
class Inputs:
    """Inputs as the model takes them, and its parameters."""

    data: Any
    params: dict[str, Any] | None = None

    @property
    def kind(self) -> Hashable:
        """What inputs must have in common to be joined."""
        params = json.dumps(self.params, sort_keys=True)
        if isinstance(self.data, list):
            return list, params
        if isinstance(self.data, np.ndarray):
            return np.ndarray, params, self.data.dtype, self.data.shape[1:]
        if isinstance(self.data, pd.DataFrame):
            return pd.DataFrame, params, tuple(self.data.columns), tuple(self.data.dtypes)
        return id(self)


@dataclass(frozen=True)
class Upload:
    """A file."""

    file: BinaryIO


@dataclass(frozen=True)
class Rows:
    """A JSON document in MLflow's scoring protocol."""

    document: bytes


class ServedModel:
    """A model that predicts the inputs of several requests in one call.

    Attributes:
        call_sizes: The number of inputs of each call.
    """

    def __init__(self, name: str, version: str, model: PyFuncModel) -> None:
        # Let typed models take base64 for bytes, as MLflow's own server does.
        os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
        self.name = name
        self.version = version
        self._model = model
        self.call_sizes = Histogram(
            "serving_batch_size", "Inputs per call of the model.", buckets=BUCKETS, registry=None
        )

    @property
    def upload_field(self) -> str | None:
        """The field of a form with a file, or None if the inputs of the model are not files."""
        metadata = self._model.metadata
        schema = metadata.get_input_schema()
        takes_files = schema and not schema.is_tensor_spec() and schema.input_types() == [DataType.binary]
        return (metadata.metadata or {}).get(UPLOAD_FIELD, "input") if takes_files else None

    @property
    def answers_questions(self) -> bool:
        """Whether the model answers questions."""
        return bool((self._model.metadata.metadata or {}).get(ANSWERS_QUESTIONS))

    def reply(self, question: str) -> dict[str, Any]:
        """Return the answer to a question with its sources, or a failure."""
        [reply] = self._model.predict([question])
        return dict(reply)

    def ask(self, question: str) -> Iterator[dict[str, Any]]:
        """Yield the answer to a question in pieces, or a failure as the first one."""
        # Not MLflow's own predict_stream, whose context variables must be set and reset in one thread.
        events: Iterator[dict[str, Any]] = self._model.unwrap_python_model().predict_stream(question)
        return events

    @property
    def usage(self) -> str:
        """What a client must send."""
        return SEND_FILE.format(field=self.upload_field) if self.upload_field else SEND_ROWS

    def predict(self, requests: Sequence[Upload | Rows]) -> list[list[Any] | HTTPException]:
        """Return the predictions for each request as JSON values, or why there are none."""
        answers: dict[int, list[Any] | HTTPException] = {}
        groups: dict[Hashable, dict[int, Inputs]] = {}
        for number, request in enumerate(requests):
            try:
                inputs = self._inputs(request)
            except HTTPException as error:
                answers[number] = error
            except Exception as error:  # noqa: BLE001 - on values of the wrong type the parsers raise nearly anything
                answers[number] = HTTPException(422, _one_line(error))
            else:
                groups.setdefault(inputs.kind, {})[number] = inputs
        for group in groups.values():
            answers |= zip(group, self._predict_together(list(group.values())), strict=True)
        return [answers[number] for number in range(len(requests))]

    def _inputs(self, request: Upload | Rows) -> Inputs:
        if isinstance(request, Upload):
            return Inputs([request.file.read()])
        document = self._decoded(request.document)
        metadata = self._model.metadata
        parsed = scoring_server._parse_json_data(document, metadata, metadata.get_input_schema())
        return Inputs(parsed.data, parsed.params)

    def _decoded(self, document: bytes) -> dict[str, Any]:
        try:
            decoded: dict[str, Any] = json.loads(document)
            formats = scoring_server.SUPPORTED_FORMATS & decoded.keys()
        except (ValueError, AttributeError, RecursionError) as error:
            raise HTTPException(422, self.usage) from error
        if len(formats) != 1:
            raise HTTPException(422, self.usage)
        return decoded

    def _predict_together(self, group: list[Inputs]) -> list[list[Any] | HTTPException]:
        """Predict in one call or, if that fails or does not give one prediction per input, one after the other."""
        if len(group) > 1:
            counts = [len(inputs.data) for inputs in group]
            try:
                predictions = self._predict(_joined(group))
            except Exception:
                log.info("A batch of %d requests failed; predicting them one by one.", len(group), exc_info=True)
            else:
                if isinstance(predictions, list) and len(predictions) == sum(counts):
                    remaining = iter(predictions)
                    return [list(islice(remaining, count)) for count in counts]
        return [self._predict_alone(inputs) for inputs in group]

    def _predict_alone(self, inputs: Inputs) -> list[Any] | HTTPException:
        try:
            predictions: list[Any] = self._predict(inputs)
        except MlflowException as error:  # the inputs do not match the signature
            return HTTPException(422, _one_line(error))
        except Exception:
            log.exception("The model failed.")
            return HTTPException(500, FAILED)
        return predictions

    def _predict(self, inputs: Inputs) -> Any:
        self.call_sizes.observe(len(inputs.data))
        raw = self._model.predict(inputs.data, inputs.params)
        return json.loads(json.dumps(_get_jsonable_obj(raw, pandas_orient="records"), cls=NumpyEncoder))


def failure_of(prediction: Any) -> HTTPException | None:
    """Return the response for an input that the model could not predict, or None."""
    if not isinstance(prediction, dict) or set(prediction) != FAILURE:
        return None
    status = prediction["status"]
    return HTTPException(status, prediction["error"], RETRY if status == HTTPStatus.SERVICE_UNAVAILABLE else None)


def load(name: str, version: str, folder: Path) -> ServedModel:
    """Load a version, a number or "champion", from the registry into a folder that stays.

    Raises:
        StartError: The version cannot be loaded.
    """
    number = _champion(name) if version == CHAMPION else version
    with _clear_errors(f"load version {number} of {name}"):
        files = mlflow.artifacts.download_artifacts(f"models:/{name}/{number}", dst_path=str(folder))
        if mlflow.pyfunc.FLAVOR_NAME not in Model.load(files).flavors:
            raise StartError(
                f"Version {number} of {name} carries no code to serve it: run the task that deploys it again, or "
                "register it as an MLflow pyfunc model."
            )
    try:
        return ServedModel(name, number, mlflow.pyfunc.load_model(files))
    except Exception as error:
        log.exception("The model cannot be loaded.")
        raise StartError(
            f"Version {number} of {name} cannot be loaded; if a package is missing, serve it with an image that has it "
            f"({_one_line(error)})"
        ) from error


def _champion(name: str) -> str:
    with _clear_errors("look up the champion"):
        try:
            return str(MlflowClient().get_model_version_by_alias(name, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                reason = f"{name} has no champion to serve yet: run the DAG that registers it first."
                raise StartError(reason) from error
            raise


def _joined(group: list[Inputs]) -> Inputs:
    """Join inputs of one kind."""
    data = [inputs.data for inputs in group]
    if isinstance(data[0], list):
        return Inputs(list(chain(*data)), group[0].params)
    if isinstance(data[0], np.ndarray):
        return Inputs(np.concatenate(data), group[0].params)
    return Inputs(pd.concat(data, ignore_index=True), group[0].params)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON]


@contextmanager
def _clear_errors(action: str) -> Iterator[None]:
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        raise StartError(f"Could not {action}: MLFLOW_TRACKING_URI is not set: set it to the MLflow server's address.")
    try:
        yield
    except StartError:
        raise
    except MlflowException as error:
        if error.get_http_status_code() in range(400, 429):
            raise StartError(f"Could not {action}: MLflow at {address} answered: {_one_line(error)}") from error
        raise StartError(
            f"Could not {action}: MLflow at {address} does not answer; check that it is running ({_one_line(error)})."
        ) from error
    except Exception as error:  # of the object store's client
        raise StartError(f"Could not {action}: the object store failed ({_one_line(error)}).") from error

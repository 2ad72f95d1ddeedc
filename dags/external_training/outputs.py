"""What the tasks of the DAGs pass each other."""

from typing import Any, TypedDict

from flight_model.outputs import Computing, Fitted


class Job(TypedDict):
    """Output of `prepare`: what the other system is to do. Addresses are in the artifacts bucket.

    Attributes:
        name: The name of the job; the same training has the same name.
        training_key: Identifies the training.
        training: The arguments of fit.py except the addresses.
        inputs: Everything that the model depends on.
        flights: The address of the training set.
        program: The address of the program's archive.
        output: The address of the folder of the job's output.
    """

    name: str
    training_key: str
    training: dict[str, Any]
    inputs: dict[str, Any]
    flights: str
    program: str
    output: str


class Fetched(TypedDict):
    """Output of `fetch`: the model, and where it was fitted."""

    fitted: Fitted
    computing: Computing

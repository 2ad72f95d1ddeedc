"""What the tasks of the DAG pass each other."""

from typing import TypedDict


class Frozen(TypedDict):
    """Output of `freeze`: the key of the Parquet file, the hash of its rows, and how its days are used."""

    training_set: str
    sha256: str
    first: str
    last: str
    days: int
    rows: int
    late: int
    as_of: str
    evaluation_days: int


class Fitted(TypedDict):
    """A fitted model."""

    training_key: str
    candidate: str
    rows: int
    seconds: float
    finished_at_ms: int


class Compared(Fitted):
    """Output of `train`; the AUC is on the days that candidates are compared on."""

    auc: float


class Choice(TypedDict):
    """Output of `choose`: the best candidate, all that were compared, best first, and those that failed."""

    candidate: str
    compared: list[Compared]
    failed: list[str]


class Metrics(TypedDict):
    """How good predicted probabilities are; the skill is against the base rate of the same flights."""

    auc: float
    brier_score: float
    brier_skill: float


class Evaluation(TypedDict):
    """Output of `evaluate`; the champion is measured on the same flights."""

    folder: str
    first: str
    last: str
    rows: int
    metrics: Metrics
    champion_version: str | None
    champion_metrics: Metrics | None
    is_champion: bool


class Decision(TypedDict):
    """Output of `gate`: whether the model may become the champion, why, and a summary for the person who approves."""

    promote: bool
    reason: str
    summary: str


class Registration(TypedDict):
    """Output of `register`."""

    version: str
    approved_by: str | None


class Computing(TypedDict):
    """Where a model was fitted outside the stack, for how long, and what that cost in US dollars."""

    system: str
    job: str
    resources: str
    seconds: float
    usd: float

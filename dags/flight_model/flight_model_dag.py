"""
# flight_model

Trains a model that predicts whether a flight will be late, compares it with the champion, and serves the better one.

**Input.** The table `flight_features` in the database of the Airflow connection `features`, all days before `as_of`.
A run starts on an event of the asset `retrain_request`, or by hand.

**Output.** The frozen training set, models and their evaluation under `s3://$ARTIFACTS_BUCKET/flight_model/`, a model
card next to each model, a version of the MLflow model `flight_delays` with the alias `champion`, an endpoint that
serves it, and an event of the asset `flight_delays_champion`.

| Task | What it does | When it fails |
| --- | --- | --- |
| freeze | stores the flights before `as_of` as one file, with a hash of its rows | publish the missing days |
| train | fits each candidate to the first days | the others continue |
| choose | takes the candidate with the highest AUC on the next days | all candidates failed: see the logs of train |
| refit | fits the chosen candidate to the days of both | see Retries |
| evaluate | measures the model and the champion on the last days, records the training in MLflow | see Retries |
| gate | fails below `minimum_auc`; lets pass a model not worse than the champion | see the pictures of the evaluation |
| next_task | chooses the branch | see Retries |
| approval | asks a person, where the stack requires it | see Approval |
| register | stores a version in MLflow | see Retries |
| promote | moves the alias `champion` to the version | see Retries |
| deploy | serves the version; the old one serves until the new one is ready | see the error in the log |
| card | writes the model card, and describes the version in MLflow | see Retries |

**Days.** The last `evaluation_days` before `as_of` evaluate the model, and as many days before them choose the
candidate. What was evaluated is what is registered and served. As of 2013-04-29, the model is trained on January to
March and evaluated on April 1 to 28. Without `as_of`, the event of the run names the day, or it is the day after the
last published one.

**The champion stays** in four cases. Below `minimum_auc` the run fails, because something is wrong with the data or the
code. The run ends green if the model is worse than the champion, if a person rejects it, and if the model is the
champion already. The log of `gate` or `card` ends with the reason.

**Approval.** Where the environment variable MODEL_APPROVAL is `required`, the run waits at `approval` for three days.
Answer under Required Actions in Airflow's UI. Without an answer the model counts as rejected.

**Retries.** The same flights, settings and code give the same model, byte for byte, and the same version: clearing any
task is safe. A task that is killed runs again alone. Clearing `promote` sends its event again.

**Rollback.** Set the alias `champion` in MLflow to an older version and start a run: the gate compares with that one.
To serve the older version again, clear `deploy` of the run that registered it.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, Param, PartitionedAssetTimetable, TriggerRule, dag, task

from flight_model import candidates
from ml_common import approval, partitions, pods
from ml_common.defaults import DEFAULT_ARGS

PODS = pods.of(__file__)
RETRAIN_REQUEST = Asset("retrain_request")
CHAMPION = Asset("flight_delays_champion")
# Fits one model on one core; see THREADS in models.py.
TRAINING = pods.Size(cores=1, memory_gib=2)


@dag(
    dag_id="flight_model",
    schedule=PartitionedAssetTimetable(assets=RETRAIN_REQUEST),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(days=4),
    default_args={**DEFAULT_ARGS, "executor_config": PODS.on_cpu()},
    params={
        "as_of": Param(
            None,
            **{**partitions.DAY, "type": ["null", "string"]},
            description="Day before which flights are used; null: the requested one, or the first not published.",
        ),
        "evaluation_days": Param(
            28, type="integer", minimum=7, maximum=90, description="Days to evaluate on, and days to choose on."
        ),
        "minimum_auc": Param(0.65, type="number", minimum=0.5, maximum=1, description="AUC below which the run fails."),
        "seed": Param(
            0, type="integer", minimum=0, maximum=2**31 - 1, description="The same seed repeats a training exactly."
        ),
    },
    tags=["flights", "training", "serving"],
    doc_md=__doc__,
)
def flight_model() -> None:
    """Wire the steps. Each task imports its libraries when it runs, so that parsing stays fast."""

    @task
    def freeze(params: Any = None, triggering_asset_events: Any = None) -> Any:
        from flight_model import fitting

        requests = [event.extra for event in triggering_asset_events[RETRAIN_REQUEST]]
        return fitting.freeze(params["as_of"], requests, params["evaluation_days"])

    @task(executor_config=PODS.on_cpu(TRAINING), map_index_template="{{ task.op_kwargs['candidate'] }}")
    def train(frozen: Any, candidate: Any, params: Any = None) -> Any:
        from flight_model import fitting

        return fitting.train(frozen, candidate, params["seed"])

    @task(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
    def choose(results: Any) -> Any:
        from flight_model import fitting

        return fitting.choose(results)

    @task(executor_config=PODS.on_cpu(TRAINING))
    def refit(frozen: Any, choice: Any, params: Any = None) -> Any:
        from flight_model import fitting

        return fitting.refit(frozen, choice, params["seed"])

    @task(executor_config=PODS.on_cpu(TRAINING))
    def evaluate(frozen: Any, choice: Any, fitted: Any, params: Any = None) -> Any:
        from flight_model import steps

        return steps.evaluate(frozen, choice, fitted, params["seed"])

    @task
    def gate(frozen: Any, evaluated: Any, params: Any = None) -> Any:
        from flight_model import gate

        return gate.decide(frozen, evaluated, params["minimum_auc"])

    @task.branch
    def next_task(evaluated: Any, decision: Any) -> Any:
        from flight_model import gate

        return gate.next_task(evaluated, decision)

    asks = approval.approval("Should the new model of late flights become the champion?")

    # Of its upstream tasks, approval is skipped where it is not required.
    @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def register(frozen: Any, choice: Any, fitted: Any, evaluated: Any, ti: Any = None) -> Any:
        from flight_model import steps

        return steps.register(frozen, choice, fitted, evaluated, ti.xcom_pull(task_ids=approval.TASK_ID))

    @task(outlets=[CHAMPION])
    def promote(registered: Any, outlet_events: Any = None) -> str:
        from flight_model import steps

        version = steps.promote(registered)
        outlet_events[CHAMPION].extra = {"version": version}
        return version

    @task(executor_config=PODS.on_cpu(deploys=True))
    def deploy(version: Any) -> str:
        from flight_model import steps

        return steps.deploy(version)

    # Also where the champion stays. The answer is pulled: a task that follows a rejection directly is skipped.
    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def card(
        frozen: Any, choice: Any, fitted: Any, evaluated: Any, decision: Any, registered: Any, ti: Any = None
    ) -> str:
        from flight_model import steps

        answer = ti.xcom_pull(task_ids=approval.TASK_ID)
        return steps.write_card(frozen, choice, fitted, evaluated, decision, answer, registered)

    frozen = freeze()
    choice = choose(train.partial(frozen=frozen).expand(candidate=candidates.NAMES))
    fitted = refit(frozen, choice)
    evaluated = evaluate(frozen, choice, fitted)
    decision = gate(frozen, evaluated)
    branch = next_task(evaluated, decision)
    registered = register(frozen, choice, fitted, evaluated)
    promoted = promote(registered)
    branch >> asks >> registered
    deploy(promoted)
    written = card(frozen, choice, fitted, evaluated, decision, registered)
    branch >> [registered, written]
    promoted >> written


flight_model()

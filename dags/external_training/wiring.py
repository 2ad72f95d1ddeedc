"""Makes the DAG of a folder whose dag.yaml declares `external`."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, Param, TriggerRule, dag, task

from external_training.connections import why_missing
from external_training.operators import OPERATORS
from flight_model import candidates
from ml_common import approval, declarations, partitions, pods
from ml_common.defaults import DEFAULT_ARGS
from ml_common.lazy_operator import LazyOperator

log = logging.getLogger(__name__)

CHAMPION = Asset("flight_delays_champion")
# Evaluates one model on one core; see THREADS in flight_model/models.py.
EVALUATION = pods.Size(cores=1, memory_gib=2)
# More than the largest time that systems add to `max_minutes`.
MARGIN = timedelta(hours=1)
PARAMS = {
    "as_of": Param(
        None,
        **{**partitions.DAY, "type": ["null", "string"]},
        description="Day before which flights are used; null: the first that is not published.",
    ),
    "evaluation_days": Param(28, type="integer", minimum=7, maximum=90, description="Days to evaluate on."),
    "minimum_auc": Param(0.65, type="number", minimum=0.5, maximum=1, description="AUC below which the run fails."),
    "candidate": Param("boosting", type="string", enum=candidates.NAMES, description="Model to fit."),
    "seed": Param(
        0, type="integer", minimum=0, maximum=2**31 - 1, description="The same seed repeats a training exactly."
    ),
}


def create(dag_file: str, runbook: str | None) -> DAG | None:
    """Return the DAG of a folder, or None without the connection that it declares; the log then says why.

    Args:
        dag_file: The file `<dag_id>_dag.py` in the folder.
        runbook: The documentation of the DAG.
    """
    folder = Path(dag_file).parent
    external = declarations.of(folder)["external"]
    reason = why_missing(external["connection"])
    if reason:
        log.warning("There is no DAG %s: %s.", folder.name, reason)
        return None
    return _wired(folder.name, dag_file, external, runbook)


def _wired(dag_id: str, dag_file: str, external: Any, runbook: str | None) -> DAG:
    of_dag = pods.of(dag_file)

    @dag(
        dag_id=dag_id,
        schedule=None,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(days=7),
        default_args={**DEFAULT_ARGS, "executor_config": of_dag.on_cpu()},
        params=PARAMS,
        tags=["flights", "training", "external"],
        doc_md=runbook,
    )
    def external_training() -> None:
        """Wire the steps. Each task imports its libraries when it runs, so that parsing stays fast."""

        @task
        def freeze(params: Any = None) -> Any:
            from flight_model import fitting

            return fitting.freeze(params["as_of"], [], params["evaluation_days"])

        @task
        def prepare(frozen: Any, params: Any = None) -> Any:
            from external_training import steps

            return steps.prepare(dag_id, frozen, params["candidate"], params["seed"])

        @task
        def request(job: Any) -> Any:
            from external_training import steps

            return steps.request(dag_id, job)

        @task
        def fetch(job: Any, result: Any) -> Any:
            from external_training import steps

            return steps.fetch(dag_id, job, result)

        @task(executor_config=of_dag.on_cpu(EVALUATION))
        def evaluate(frozen: Any, fetched: Any, params: Any = None) -> Any:
            from external_training import steps as external_steps
            from flight_model import steps

            return steps.evaluate(frozen, external_steps.choice(fetched), fetched["fitted"], params["seed"])

        @task
        def gate(frozen: Any, evaluated: Any, params: Any = None) -> Any:
            from flight_model import gate

            return gate.decide(frozen, evaluated, params["minimum_auc"])

        @task.branch
        def next_task(evaluated: Any, decision: Any) -> Any:
            from flight_model import gate

            return gate.next_task(evaluated, decision)

        asks = approval.approval(f"Should the model of late flights from {dag_id} become the champion?")

        # Of its upstream tasks, approval is skipped where it is not required.
        @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
        def register(frozen: Any, fetched: Any, evaluated: Any, ti: Any = None) -> Any:
            from external_training import steps as external_steps
            from flight_model import steps

            answer = ti.xcom_pull(task_ids=approval.TASK_ID)
            return steps.register(frozen, external_steps.choice(fetched), fetched["fitted"], evaluated, answer)

        @task(outlets=[CHAMPION])
        def promote(registered: Any, outlet_events: Any = None) -> str:
            from flight_model import steps

            version = steps.promote(registered)
            outlet_events[CHAMPION].extra = {"version": version}
            return version

        # Also where the champion stays. The answer is pulled: a task that follows a rejection directly is skipped.
        @task(trigger_rule=TriggerRule.NONE_FAILED)
        def card(frozen: Any, fetched: Any, evaluated: Any, decision: Any, registered: Any, ti: Any = None) -> str:
            from external_training import steps as external_steps
            from flight_model import steps

            answer = ti.xcom_pull(task_ids=approval.TASK_ID)
            return steps.write_card(
                frozen,
                external_steps.choice(fetched),
                fetched["fitted"],
                evaluated,
                decision,
                answer,
                registered,
                fetched["computing"],
            )

        frozen = freeze()
        job = prepare(frozen)
        submit = LazyOperator(
            task_id="submit",
            operator=OPERATORS[external["backend"]],
            arguments=request(job),
            execution_timeout=timedelta(minutes=external["max_minutes"]) + MARGIN,
        )
        fetched = fetch(job, submit.output)
        evaluated = evaluate(frozen, fetched)
        decision = gate(frozen, evaluated)
        branch = next_task(evaluated, decision)
        registered = register(frozen, fetched, evaluated)
        promoted = promote(registered)
        branch >> asks >> registered
        written = card(frozen, fetched, evaluated, decision, registered)
        branch >> [registered, written]
        promoted >> written

    return external_training()

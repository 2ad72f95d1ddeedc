"""Airflow's local settings: each task's pod runs with the service account of its DAG.

https://airflow.apache.org/docs/apache-airflow/stable/howto/set-config.html#configuring-local-settings
"""

import json
import os
from typing import Any

# Airflow copies everything else into its own settings.
__all__ = ["pod_mutation_hook"]

# The service account of each DAG of the deployed commit. The Pulumi program sets it in the scheduler, which creates the
# pods of tasks; operators that create pods of their own run without it.
ACCOUNTS = json.loads(os.environ.get("DAG_ACCOUNTS", "null"))
# The pod template's account, for DAGs that were pushed after the last deployment.
DEFAULT = "airflow-task"


def pod_mutation_hook(pod: Any) -> None:
    """Set the service account; the scheduler calls this function before it creates a task's pod.

    Raises:
        ValueError: The task asks for another account.
    """
    if ACCOUNTS is None:
        return
    dag_id = pod.metadata.annotations["dag_id"]
    account = ACCOUNTS.get(dag_id, DEFAULT)
    if pod.spec.service_account_name not in (None, DEFAULT, account):
        raise ValueError(
            f"the task asks for the service account {pod.spec.service_account_name}, but {dag_id} has the account "
            f"{account}: remove service_account_name from the task's executor_config"
        )
    pod.spec.service_account_name = account

import json
import subprocess

import pytest

from infra.helm_values import airflow_settings
from ops.laptop import airflow, ports
from ops.laptop.home import Home

EXPECTED_OVERRIDES = {
    # settings of the clusters that the laptop overrides
    ("dag_processor", "parsing_processes"),
    ("dag_processor", "min_file_process_interval"),
    ("logging", "json_logs"),
}


def test_the_laptop_uses_the_settings_in_the_helm_values(home: Home) -> None:
    variables = airflow.environment(home, ports.choose(home))
    overridden = {
        (section, option)
        for section, options in airflow.overrides(home, ports.choose(home)).items()
        for option in options
    }
    shared = {(section, option) for section, options in airflow_settings().items() for option in options}
    assert shared & overridden == EXPECTED_OVERRIDES
    for section, options in airflow_settings().items():
        for option, value in options.items():
            if (section, option) not in EXPECTED_OVERRIDES:
                assert variables[f"AIRFLOW__{section.upper()}__{option.upper()}"] == value


def test_airflow_listens_on_and_calls_only_the_loopback_address(home: Home) -> None:
    variables = airflow.environment(home, ports.choose(home))
    for name in (
        "AIRFLOW__API__HOST",
        "AIRFLOW__API__BASE_URL",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST",
        "AIRFLOW_CONN_FEATURES",
        "AWS_ENDPOINT_URL",
        "MLFLOW_TRACKING_URI",
    ):
        assert "127.0.0.1" in variables[name], name


def test_lineage_is_sent_only_to_the_server_that_the_user_names(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ports.choose(home)
    assert not [name for name in airflow.environment(home, chosen) if "OPENLINEAGE" in name]
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:5000")
    transport = json.loads(airflow.environment(home, chosen)["AIRFLOW__OPENLINEAGE__TRANSPORT"])
    assert (transport["type"], transport["url"]) == ("http", "http://127.0.0.1:5000/")


def test_runs_are_recorded_in_weights_and_biases_only_in_the_mode_that_the_user_sets(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ports.choose(home)
    assert airflow.environment(home, chosen)["WANDB_MODE"] == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert airflow.environment(home, chosen)["WANDB_MODE"] == "offline"


def test_tasks_have_the_variables_that_limit_their_memory(home: Home) -> None:
    assert airflow.environment(home, ports.choose(home)).items() >= {"MALLOC_ARENA_MAX": "1"}.items()


def test_the_triggerer_imports_the_callbacks_of_deadlines(home: Home) -> None:
    services = {service.name: service for service in airflow.services(home, ports.choose(home))}
    python, *_ = services["triggerer"].command
    command = [python, "-c", "import ml_common.deadlines"]
    subprocess.run(command, env=services["triggerer"].environment, check=True, capture_output=True)

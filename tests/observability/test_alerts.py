import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
RULES = REPOSITORY / "infra" / "observability" / "rules" / "airflow.yaml"
UNIT_TESTS = Path(__file__).parent / "alerts.yaml"
SCRAPE = REPOSITORY / "infra" / "observability" / "scrape.yaml"

Samples = dict[str, list[tuple[dict[str, str], float]]]

# Labels that Prometheus adds when it scrapes, and metrics of other exporters: PgBouncer's exporter, git-sync and
# kube-state-metrics. https://github.com/prometheus-community/pgbouncer_exporter,
# https://github.com/kubernetes/git-sync, https://github.com/kubernetes/kube-state-metrics/tree/main/docs
OF_THE_SCRAPE = {"namespace", "job"}
OF_OTHERS = {
    "up",
    "pgbouncer_up",
    "pgbouncer_pools_client_waiting_connections",
    "git_sync_count_total",
    "kube_pod_status_phase",
    "kube_pod_container_resource_requests",
}


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def unit_tests() -> list[dict[str, Any]]:
    return list(yaml.safe_load(UNIT_TESTS.read_text())["tests"])


def judged(*, firing: bool) -> set[str]:
    """Return the alerts that the unit tests expect to fire or not to fire."""
    return {
        re.findall(r'alertname="(\w+)"', case["expr"])[0]
        for test in unit_tests()
        for case in test.get("promql_expr_test", [])
        if bool(case["exp_samples"]) == firing
    }


def series(text: str) -> tuple[str, set[str]]:
    """Return the name and the labels of a series in promtool's notation."""
    name, _, labels = text.partition("{")
    return name, set(re.findall(r"(\w+)=", labels))


def test_every_alert_fires_and_is_silent_when_it_should(promtool: str) -> None:
    result = subprocess.run(
        [promtool, "test", "rules", str(UNIT_TESTS)], check=False, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_tests_that_fire_and_tests_that_do_not() -> None:
    assert judged(firing=True) == judged(firing=False) == alerts().keys()


def test_the_rules_are_valid(promtool: str) -> None:
    subprocess.run([promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES)], check=True)


@pytest.mark.parametrize("alert", alerts().values(), ids=lambda alert: alert["alert"])
def test_every_alert_has_a_severity_and_a_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert anchor == alert["alert"].lower()
    assert f"### {alert['alert']}\n" in (REPOSITORY / page).read_text()


@pytest.mark.parametrize("alert", alerts().values(), ids=lambda alert: alert["alert"])
def test_every_alert_uses_existing_metrics(alert: dict[str, Any], samples: Samples) -> None:
    names = set(re.findall(r"\b(?:airflow|pgbouncer|git|kube)_[a-z_]+\b|\bup\b(?=\{)", alert["expr"]))
    assert names
    assert names <= samples.keys() | OF_OTHERS


def test_the_unit_tests_use_series_as_airflow_sends_them(samples: Samples) -> None:
    unknown = []
    for test in unit_tests():
        for name, labels in (series(given["series"]) for given in test["input_series"]):
            sent = [set(having) for having, _ in samples.get(name, [])]
            if name not in OF_OTHERS and labels - OF_THE_SCRAPE not in sent:
                unknown.append((name, labels, sent))
    assert unknown == []


def test_the_scrape_jobs_are_valid(promtool: str, tmp_path: Path) -> None:
    """Debian builds Prometheus without Kubernetes service discovery, so the test replaces it with its results."""
    jobs = yaml.safe_load(SCRAPE.read_text())
    for job in jobs["scrape_configs"]:
        [discovery] = job.pop("kubernetes_sd_configs")
        assert discovery["role"] in {"pod", "endpointslice"}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(jobs))
    subprocess.run([promtool, "check", "config", str(tmp_path / "prometheus.yml")], check=True)

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "infra" / "observability" / "dashboards"
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]
# The values of Grafana's variables.
CHOSEN = {"$namespace": "airflow", "$dag_id": ".*", "$__rate_interval": "1m"}

Query = Callable[[str], list[dict[str, Any]]]
dashboards = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS.keys())


def chosen(expression: str) -> str:
    for variable, value in CHOSEN.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_shows_what_airflow_sends(panel: dict[str, Any], query: Query) -> None:
    for target in panel["targets"]:
        labels = re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))
        shown = [
            series
            for series in query(chosen(target["expr"]))
            if series["value"][1] != "NaN" and all(series["metric"].get(label) for label in labels)
        ]
        assert shown, target["expr"]


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_has_a_unit_and_a_description(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]


@dashboards
def test_the_variables_offer_what_airflow_sends(dashboard: dict[str, Any], query: Query) -> None:
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            values = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert values
            assert all(series["metric"][values[2]] for series in query(chosen(values[1])))


@dashboards
def test_the_data_source_of_a_dashboard_can_be_chosen(dashboard: dict[str, Any]) -> None:
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    queries = [variable for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    readers = [*panels, *queries, *(target for panel in panels for target in panel["targets"])]
    assert {reader["datasource"]["uid"] for reader in readers} == {"${datasource}"}
    assert [variable["name"] for variable in dashboard["templating"]["list"]][:2] == ["datasource", "namespace"]


@dashboards
def test_no_two_panels_have_the_same_position_or_id(dashboard: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def test_no_two_dashboards_have_the_same_uid() -> None:
    addresses = [dashboard["uid"] for dashboard in DASHBOARDS.values()]
    assert len(addresses) == len(set(addresses))

import json
import re
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ops.cli import app as command
from ops.plan.architecture import architecture
from ops.plan.diagram import diagram
from ops.plan.page import kind, page
from ops.plan.plan import comparison, plan_of
from ops.plan.recording import Recording, stacks

# Elements whose content browsers fetch automatically; links are followed only on a click.
LOADING = {"src", "srcset", "data", "poster", "action", "background", "manifest", "xlink:href"}


class Elements(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "rect", "col"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag, f"<{tag}> is closed in the wrong order"


def text_of(recording: Recording) -> str:
    return page(plan_of(recording))


def test_the_page_loads_no_external_resources(recording: Recording) -> None:
    text = text_of(recording)
    for tag, attributes in Elements(text).found:
        assert tag not in ("script", "link", "iframe", "img", "object", "embed", "base")
        assert not LOADING & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"@import|url\(", text)


def test_every_element_of_the_page_is_closed(recording: Recording) -> None:
    assert Elements(text_of(recording)).open == []


def test_every_resource_is_on_the_page(recording: Recording) -> None:
    text = unescape(text_of(recording))
    for resource in recording.resources:
        entry = f'<span class="kind">{kind(resource)}</span> <span class="name">{resource.name}</span>'
        assert entry in text


def test_every_input_of_a_resource_is_on_the_page(recordings: dict[str, Recording]) -> None:
    text = unescape(text_of(recordings["dev"]))
    (database,) = recordings["dev"].of_type("aws:rds/instance:Instance")
    for name in database.inputs:
        assert f"<dt>{name}</dt>" in text


def test_every_charge_is_on_the_page_with_its_source(recording: Recording) -> None:
    plan = plan_of(recording)
    text = unescape(page(plan))
    for line in plan.bill.lines:
        assert line.what in text
        assert line.basis in text
        assert line.price.source in text


def test_the_differences_are_on_the_page(recordings: dict[str, Recording]) -> None:
    plan = plan_of(recordings["prod"])
    text = page(plan, comparison(plan, "dev", recordings["dev"]))
    assert "Differences from dev" in text
    assert "db.t4g.micro" in text
    assert "Differences" not in page(plan)


def test_names_of_resources_cannot_break_the_page(recordings: dict[str, Recording]) -> None:
    dev = recordings["dev"]
    evil = [{**resource.__dict__, "name": "<script>alert(1)</script>"} for resource in dev.resources]
    resources = tuple(type(dev.resources[0])(**values) for values in evil)
    text = text_of(Recording(dev.project, dev.stack, "eu-central-1", resources, dev.exports))
    assert "<script>" not in text


def test_the_diagram_shows_the_stacks_real_names_and_counts(recordings: dict[str, Recording]) -> None:
    drawing = diagram(architecture(recordings["prod"]))
    for name in (
        "airflow-prod-vpc",
        "10.30.0.0/16",
        "us-east-1c",
        "airflow-prod-cluster",
        "node pool gpu",
        "airflow-prod-database",
    ):
        assert name in drawing
    assert drawing.count(">public subnet<") == 3
    assert drawing.count("NAT gateway") == 3
    assert diagram(architecture(recordings["dev"])).count("NAT gateway") == 1


def test_texts_of_the_diagram_stay_in_their_boxes(recording: Recording) -> None:
    drawing = diagram(architecture(recording))
    width, height = (float(value) for value in re.search(r'viewBox="0 0 (\S+) (\S+)"', drawing).groups())  # type: ignore[union-attr]
    for x, y, w, h in re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', drawing):
        assert float(x) >= 0
        assert float(x) + float(w) <= width
        assert float(y) + float(h) <= height


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ops", "plan", *arguments])
    command.main()


@pytest.mark.usefixtures("chart")
def test_the_command_writes_the_page_and_prints_the_cost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(monkeypatch, "dev", "--html", str(tmp_path / "plan" / "dev.html"))
    printed = capsys.readouterr().out
    assert re.search(r"cost +\$\d+\.\d\d per month idle, \$\d+\.\d\d at this load", printed)
    assert "allows 80 connections; dev opens up to 80: scheduler 6, " in printed
    assert "tasks      up to 32 at once, 46,080 of one minute a day" in printed
    assert re.search(r"at 1,000 a day, a thousand cost \$\d\.\d\d, and \$11\.76 in Amazon MWAA", printed)
    assert str(tmp_path / "plan" / "dev.html") in printed
    assert "replace    airflow:cluster.public_access_cidrs, 203.0.113.0/24: set the networks that you wor" in printed
    page = (tmp_path / "plan" / "dev.html").read_text()
    assert page.startswith("<!doctype html>")
    assert '<td class="right">1,000</td>' in page


@pytest.mark.usefixtures("chart")
def test_the_commands_json_has_the_cost_and_the_differences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "prod", "--against", "dev", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["cost"]["idle_usd"] == pytest.approx(sum(line["idle_usd"] for line in found["cost"]["lines"]), abs=0.5)
    assert found["against"]["name"] == "dev"
    assert any("NatGateway" in urn for urn in found["against"]["added"])


@pytest.mark.usefixtures("chart")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nope"], rf"^error: Pulumi.nope.yaml does not exist: choose one of the stacks {', '.join(stacks())}"),
        (["dev", "--against", "nope"], r"^error: AGAINST=nope is neither a stack"),
    ],
)
def test_a_user_error_is_one_sentence(monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        run(monkeypatch, *arguments)

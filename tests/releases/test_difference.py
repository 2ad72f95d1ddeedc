from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console

from infra.errors import OperationError
from ops.plan.difference import Change
from ops.releases import terminal
from ops.releases.promotion import promote, promotion
from ops.releases.transition import Transition

from .team import DAG, Team, digest_of


def shown(transition: Transition) -> str:
    file = StringIO()
    terminal.show_difference(
        Console(file=file, width=160),
        transition.stack,
        transition.before,
        transition.release.commit,
        transition.difference,
    )
    return file.getvalue()


def test_a_promotion_shows_resources_settings_values_images_and_dags(team: Team, gateways: Callable[..., str]) -> None:
    first = team.release()
    with promotion(team.clone, "dev", "staging") as transition:
        promote(transition, team.images, lambda _: None)
    settings = (team.clone.folder / "Pulumi.staging.yaml").read_text()
    commit = team.commit(
        {
            "resources.json": gateways("one"),
            "helm-values/airflow-staging.yaml": "scheduler: {replicas: 2}\n",
            "Pulumi.staging.yaml": settings.replace("max_pods: 4", "max_pods: 8"),
            "dags/hello/hello_dag.py": DAG.format(name="hello", schedule="@hourly"),
            "dags/new/new_dag.py": DAG.format(name="new", schedule=None),
        }
    )
    release = team.release(commit=commit)
    with promotion(team.clone, "dev", "staging") as transition:
        found, text = transition.difference, shown(transition)
    assert found.infrastructure
    assert [resource.name for resource in found.infrastructure.comparison.difference.added] == ["one"]
    assert found.infrastructure.increase == pytest.approx(41.85, abs=0.01)
    assert found.settings == (Change("airflow:tasks.max_pods", "4", "8"),)
    assert found.values == (Change("scheduler.replicas", "1", "2"),)
    assert found.images[1] == Change(
        "ml",
        f"{first.commit[:16]}@{digest_of(f'ml {first.commit}')}",
        f"{release.commit[:16]}@{digest_of(f'ml {commit}')}",
    )
    assert (found.dags.added, found.dags.changed) == (("new",), ("hello",))
    assert found.dags.schedules == {"hello": ("@daily", "@hourly")}
    for line in (
        f"staging: {first.short} -> {release.short}",
        "NatGateway one",
        "~ airflow:tasks.max_pods: 4 -> 8",
        "~ scheduler.replicas: 1 -> 2",
        "+ new",
        "~ hello, schedule: @daily -> @hourly",
    ):
        assert line in text


def test_the_first_promotion_has_nothing_to_compare_with(team: Team) -> None:
    team.release()
    with promotion(team.clone, "dev", "staging") as transition:
        found, text = transition.difference, shown(transition)
    assert found.infrastructure is None
    assert found.dags.added == ("hello",)
    assert "resources, settings, values\nall new: see `make plan STACK=staging`\n\nimages\n~ airflow: (none)" in text


def test_a_stack_that_ran_before_it_had_releases_is_compared_with_its_branch(
    team: Team, gateways: Callable[..., str]
) -> None:
    team.git("push", "--quiet", "origin", "HEAD:refs/heads/staging")
    team.release(commit=team.commit({"resources.json": gateways("one")}))
    with promotion(team.clone, "dev", "staging") as transition:
        assert transition.infrastructure
        assert transition.infrastructure.increase == pytest.approx(41.85, abs=0.01)


def test_an_existing_cluster_has_no_cost_increase(team: Team, gateways: Callable[..., str]) -> None:
    team.git("push", "--quiet", "origin", "HEAD:refs/heads/staging")
    team.release(commit=team.commit({"resources.json": gateways(region="")}))
    with promotion(team.clone, "dev", "staging") as transition:
        assert transition.infrastructure
        assert transition.infrastructure.increase == 0


def test_a_region_without_prices_has_no_known_increase(team: Team, gateways: Callable[..., str]) -> None:
    team.git("push", "--quiet", "origin", "HEAD:refs/heads/staging")
    team.release(commit=team.commit({"resources.json": gateways(region="ap-east-1")}))
    with promotion(team.clone, "dev", "staging") as transition:
        assert transition.infrastructure
        assert transition.infrastructure.increase is None


def test_a_commit_that_cannot_be_planned_is_one_sentence(team: Team) -> None:
    team.git("push", "--quiet", "origin", "HEAD:refs/heads/staging")
    team.release(commit=team.commit({"ops/__main__.py": "raise SystemExit('error: no such setting')\n"}))
    with (
        promotion(team.clone, "dev", "staging") as transition,
        pytest.raises(OperationError, match=r"^the changes in staging cannot be determined: .*no such setting"),
    ):
        _ = transition.infrastructure

import pytest

from infra.errors import OperationError
from ops.releases.chain import check_neighbours, previous, way

from .team import Team


def test_releases_go_from_dev_over_staging_to_prod(team: Team) -> None:
    assert way("prod", team.clone.folder) == ["dev", "staging", "prod"]
    assert previous("prod", team.clone.folder) == "staging"
    assert previous("dev", team.clone.folder) is None
    check_neighbours("dev", "staging", team.clone.folder)
    check_neighbours("staging", "prod", team.clone.folder)


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        (
            "dev",
            "prod",
            r"^releases come into prod from staging, not from dev: `make promote FROM=dev TO=staging`, then "
            r"`make promote FROM=staging TO=prod`$",
        ),
        (
            "prod",
            "staging",
            r"^releases come into staging from dev, not from prod: `make promote FROM=dev TO=staging`$",
        ),
        ("prod", "prod", r"^releases come into prod from staging, not from prod: `make promote FROM=staging TO=prod`$"),
        ("staging", "dev", r"^releases of dev are built for it, not promoted into it: merge into its branch, then"),
    ],
)
def test_a_skipped_environment_is_refused_with_the_way(team: Team, source: str, target: str, sentence: str) -> None:
    with pytest.raises(OperationError, match=sentence):
        check_neighbours(source, target, team.clone.folder)


def test_a_stack_without_releases_is_named(team: Team) -> None:
    text = (team.clone.folder / "Pulumi.dev.yaml").read_text()
    (team.clone.folder / "Pulumi.qa.yaml").write_text(
        text.replace("airflow:release: {}", "").replace("branch: dev", "branch: qa")
    )
    with pytest.raises(OperationError, match=r"^qa takes no releases: .* set airflow:release in Pulumi.qa.yaml$"):
        check_neighbours("dev", "qa", team.clone.folder)

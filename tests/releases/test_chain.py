import pytest

from infra.errors import OperationError
from ops.releases.chain import check_adjacent, previous, promotion_chain

from .team import Team


def test_the_promotion_chain_is_dev_staging_prod(team: Team) -> None:
    assert promotion_chain("prod", team.clone.folder) == ["dev", "staging", "prod"]
    assert previous("prod", team.clone.folder) == "staging"
    assert previous("dev", team.clone.folder) is None
    check_adjacent("dev", "staging", team.clone.folder)
    check_adjacent("staging", "prod", team.clone.folder)


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        (
            "dev",
            "prod",
            r"^releases are promoted to prod from staging, not from dev: run `make promote FROM=dev TO=staging`, then "
            r"`make promote FROM=staging TO=prod`$",
        ),
        (
            "prod",
            "staging",
            r"^releases are promoted to staging from dev, not from prod: run `make promote FROM=dev TO=staging`$",
        ),
        (
            "prod",
            "prod",
            r"^releases are promoted to prod from staging, not from prod: run `make promote FROM=staging TO=prod`$",
        ),
        (
            "staging",
            "dev",
            r"^dev is the first stack of the chain, nothing is promoted to it: merge into its branch, then run `make d",
        ),
    ],
)
def test_skipping_a_stack_is_refused_with_the_commands(team: Team, source: str, target: str, sentence: str) -> None:
    with pytest.raises(OperationError, match=sentence):
        check_adjacent(source, target, team.clone.folder)


def test_a_stack_without_releases_is_refused(team: Team) -> None:
    text = (team.clone.folder / "Pulumi.dev.yaml").read_text()
    (team.clone.folder / "Pulumi.qa.yaml").write_text(
        text.replace("airflow:release: {}", "").replace("branch: dev", "branch: qa")
    )
    with pytest.raises(
        OperationError, match=r"^releases are not enabled for qa: set airflow:release in Pulumi.qa.yaml$"
    ):
        check_adjacent("dev", "qa", team.clone.folder)

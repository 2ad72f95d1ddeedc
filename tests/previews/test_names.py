import re

import pytest

from infra.airflow_names import database_setup_name
from infra.preview_names import STACK, bucket_prefix, database_names, is_preview, stack_name
from infra.settings.loading import STACK_NAME

BRANCHES = (
    "feature/x",
    "Feature/X",
    "feature-x",
    "feature/x_",
    "feature/a-very-long-name-that-goes-on-and-on/and/on-1",
    "feature/a-very-long-name-that-goes-on-and-on/and/on-2",
    "1",
    "fix.2026",
    "übergang".replace("ü", "u"),
)


def test_similar_branches_have_separate_environments() -> None:
    names = {stack_name(base, branch) for base in ("dev", "local") for branch in BRANCHES}
    assert len(names) == 2 * len(BRANCHES)


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_name_is_one_of_a_stack_and_short_enough_for_every_job(branch: str) -> None:
    name = stack_name("dev", branch)
    assert STACK_NAME.fullmatch(name)
    assert STACK.fullmatch(name)
    assert is_preview(name)
    # Pulumi appends a hyphen and eight characters.
    assert all(len(f"{database_setup_name(database)}-12345678") <= 63 for database in database_names(name).values())
    assert len(f"drop-{name}") <= 63


def test_a_name_stays_what_it_is_and_tells_the_branch() -> None:
    assert stack_name("dev", "feature/new-model-with-more") == "preview-feature-new-mod-2d9e9b"


def test_what_belongs_to_an_environment_begins_with_its_name() -> None:
    stack = stack_name("dev", "feature/x")
    assert database_names(stack) == {purpose: f"{stack}-{purpose}" for purpose in ("airflow", "mlflow", "features")}
    assert bucket_prefix(stack) == f"previews/{stack}/"


@pytest.mark.parametrize(
    "stack", ["dev", "airflow", "", "preview-", "preview-x", "preview-x-12345", 'preview-x"-123456']
)
def test_nothing_of_another_stack_can_be_named_as_an_environments(stack: str) -> None:
    for name in (database_names, bucket_prefix):
        with pytest.raises(ValueError, match=f"^{re.escape(stack)} is not the name of a preview environment$"):
            name(stack)

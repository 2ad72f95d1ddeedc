"""The commands that `make bootstrap` prints."""

from infra.settings import load
from ops.releases.first_deployment import next_commands

from .team import Team, stack_file


def printed(team: Team, stack: str) -> list[str]:
    return list(next_commands(team.clone, stack, load(stack, team.clone.folder), "dev"))


def test_the_first_stack_is_committed_and_pushed_before_its_images_and_its_deployment(team: Team) -> None:
    (team.clone.folder / "Pulumi.dev.yaml").write_text(stack_file("dev", {}) + "encryptedkey: abc\n")
    assert printed(team, "dev") == [
        'git add Pulumi.dev.yaml && git commit --message "Configure dev"',
        "git push --set-upstream origin dev",
        "make images STACK=dev",
        "make deploy STACK=dev",
    ]


def test_another_branch_is_left_first(team: Team) -> None:
    team.git("checkout", "--quiet", "-b", "main")
    assert printed(team, "dev")[0] == "git checkout dev"
    team.git("branch", "--quiet", "--delete", "--force", "dev")
    assert printed(team, "dev")[0] == "git checkout -b dev"


def test_a_later_stack_is_committed_to_the_first_branch_and_gets_its_release_by_promotion(team: Team) -> None:
    (team.clone.folder / "Pulumi.prod.yaml").write_text(stack_file("prod", {}) + "encryptedkey: abc\n")
    assert printed(team, "prod") == [
        'git add Pulumi.prod.yaml && git commit --message "Configure prod"',
        "git push --set-upstream origin dev",
        "make promote FROM=staging TO=prod   # when staging runs this commit and the gates of prod pass",
        "git fetch origin && git checkout main && git pull --ff-only",
        "make deploy STACK=prod",
    ]

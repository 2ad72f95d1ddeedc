from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.laptop import ports
from ops.laptop.home import Home


@pytest.fixture(scope="session", autouse=True)
def own_ports(worker_id: str) -> Iterator[None]:
    """Other ports for each worker: one that was chosen must stay free until a server takes it."""
    distance = 0 if worker_id == "master" else 100 * int(worker_id.removeprefix("gw"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ports, "PREFERRED", {name: port + distance for name, port in ports.PREFERRED.items()})
        yield


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home

"""The server for lineage, and the settings with which Airflow's OpenLineage provider sends events to it."""

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

# A server that does not answer delays a task by two attempts when it starts, and by two when it ends.
TIMEOUT_SECONDS = 2
RETRIES = 1
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Lineage:
    """Where lineage is sent.

    Attributes:
        url: The address of the server.
        namespace: The namespace of the DAGs in the lineage.
        connection: The Airflow connection whose password is the API key; None if the server needs none.
    """

    url: str
    namespace: str
    connection: str | None = None

    @property
    def host(self) -> str:
        """The host of the server."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port of the server."""
        address = urlsplit(self.url)
        return address.port or DEFAULT_PORTS[address.scheme]

    @property
    def airflow_settings(self) -> dict[str, dict[str, str]]:
        """The options of airflow.cfg by section."""
        transport = {
            "type": "http",
            # Without the slash, the client would replace the last part of the path.
            "url": f"{self.url.rstrip('/')}/",
            "timeout": TIMEOUT_SECONDS,
            "retry": {"total": RETRIES},
        }
        if self.connection:
            transport["auth"] = {"type": "airflow_connection_api_key", "conn_id": self.connection}
        return {
            "openlineage": {
                "transport": json.dumps(transport),
                "namespace": self.namespace,
                # A forked process that waits for the server can keep a task from ending.
                "execute_in_thread": "True",
            }
        }

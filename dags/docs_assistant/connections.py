"""Models by Airflow connection: the API's address as host, the key as password, and the rest as extra."""

from typing import Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from docs_assistant.models import Endpoint, Prices
from ml_common.errors import PermanentError

KINDS = ("input", "output")


def endpoint(connection: str) -> Endpoint:
    """Read a connection.

    Raises:
        PermanentError: The connection does not exist, or has no model.
    """
    try:
        found = Connection.get(connection)
    except AirflowNotFoundException as error:
        raise PermanentError(
            f"The Airflow connection `{connection}` does not exist: create it, or remove it from `connections`."
        ) from error
    try:
        extra = found.extra_dejson
        return Endpoint(
            name=f"the Airflow connection `{connection}`",
            address=_text(found.host),
            key=found.password or "none",
            model=_text(extra.get("model")),
            parameters=dict(extra.get("parameters", {})),
            prices=Prices(*(float(extra.get(f"usd_per_million_{kind}_tokens", 0)) for kind in KINDS)),
        )
    except (TypeError, ValueError) as error:
        raise PermanentError(
            f"The Airflow connection `{connection}` needs the address of the API as host, such as "
            'https://api.openai.com/v1, and the model as extra, such as {"model": "gpt-5-mini"}; parameters are an '
            f"object, and prices are numbers ({type(error).__name__}: {error})."
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("host or model is missing")
    return value

"""The JSON schema of stack files, generated from the models."""

import json
from pathlib import Path
from typing import Any

from infra.settings.loading import PROJECT, REGION_KEY
from infra.settings.models import ExistingClusterSettings, Settings

SCHEMA_FILE = Path(__file__).with_name("schema.json")


def schema() -> dict[str, Any]:
    """Return the schema: the settings under `config` with their namespaces, and the keys that Pulumi itself writes."""
    aws, existing_cluster = Settings.model_json_schema(), ExistingClusterSettings.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A stack of the project {PROJECT}",
        "type": "object",
        "required": ["config"],
        "additionalProperties": False,
        "properties": {
            "config": {
                # "if" rather than "oneOf", so that an editor explains the matching kind of stack.
                "if": {"required": [f"{PROJECT}:contexts"]},
                "then": _config(existing_cluster),
                "else": _config(aws),
            },
            "secretsprovider": {"type": "string", "description": "The provider that encrypts the stack's secrets."},
            "encryptedkey": {"type": "string", "description": "Written by Pulumi."},
            "encryptionsalt": {"type": "string", "description": "Written by Pulumi."},
        },
        "$defs": aws["$defs"] | existing_cluster["$defs"],
    }


def _config(settings: dict[str, Any]) -> dict[str, Any]:
    keys = {name: REGION_KEY if name == "region" else f"{PROJECT}:{name}" for name in settings["properties"]}
    return {
        "type": "object",
        "description": settings["description"],
        "required": [keys[name] for name in settings["required"]],
        "additionalProperties": False,
        "properties": {keys[name]: property_ for name, property_ in settings["properties"].items()},
    }


def schema_text() -> str:
    """Return the content of the schema file."""
    return json.dumps(schema(), indent=2) + "\n"

"""Write the JSON schema that editors use to validate and complete stack files."""

from infra.settings.schema import SCHEMA_FILE, schema_text

SCHEMA_FILE.write_text(schema_text())

"""Write the JSON schema by which editors check and complete the stack files."""

from infra.settings.schema import SCHEMA_FILE, schema_text

SCHEMA_FILE.write_text(schema_text())

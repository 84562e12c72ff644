"""The JSON Schema of the deployment file: what editors check and complete by."""

from __future__ import annotations

import json
from typing import Any

from heavylift.spec.deployment import Deployment

__all__ = ["schema_text"]


def schema_text() -> str:
    """Return the schema as text: equal code, equal bytes."""
    schema: dict[str, Any] = Deployment.model_json_schema(by_alias=True)
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "heavylift deployment"}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"

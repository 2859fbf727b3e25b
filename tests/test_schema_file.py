"""The JSON schema that is shipped is the one that the types have."""

import json
from pathlib import Path

from fairguard.report.json import schema

FILE = Path(__file__).parent.parent / "fairguard" / "report" / "verdict.schema.json"


def test_the_shipped_schema_is_the_types_schema() -> None:
    fresh = json.dumps(schema(), indent=2) + "\n"
    assert FILE.read_text() == fresh, "run: make schema"

"""Writes what is made from parser, models and reasons: manual pages, completion, JSON schema, references."""

import sys
from pathlib import Path

from hawkwing import config_schema
from lab.packages import completion, manual, reasons, reference

_SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "hawkwing.schema.json"


def texts() -> dict[Path, str]:
    """Each file with its text."""
    return {
        **manual.texts(),
        **completion.texts(),
        _SCHEMA: config_schema.text(),
        reasons.FILE: reasons.text(),
        reference.FILE: reference.text(),
    }


def main() -> int:
    """Writes them."""
    for path, text in texts().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

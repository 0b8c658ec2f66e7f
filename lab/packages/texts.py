"""Writes what is made from the sources: manual pages, completion, schema, references, dashboard."""

import sys
from pathlib import Path

from hawkwing import config_schema
from lab.packages import completion, dashboard, manual, metrics_page, reasons, reference

_SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "hawkwing.schema.json"


def texts() -> dict[Path, str]:
    """Each file with its text."""
    return {
        **manual.texts(),
        **completion.texts(),
        _SCHEMA: config_schema.text(),
        metrics_page.PAGE: metrics_page.text(),
        dashboard.PAGE: dashboard.text(),
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

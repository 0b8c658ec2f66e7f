"""Writes the generated files: manual pages, completion, schema, references, dashboard."""

import sys
from pathlib import Path

from hawkwing import config_schema, status_schema
from lab.packages import completion, dashboard, manual, metrics_page, reasons, reference, status_page

_DOCS = Path(__file__).resolve().parents[2] / "docs"


def texts() -> dict[Path, str]:
    """Each file with its text."""
    return {
        **manual.texts(),
        **completion.texts(),
        _DOCS / "hawkwing.schema.json": config_schema.text(),
        _DOCS / "status.schema.json": status_schema.text(),
        status_page.FILE: status_page.text(),
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

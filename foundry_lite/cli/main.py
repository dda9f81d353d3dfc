"""The command ``foundry-lite``.

What it needs is imported where an error, or a Ctrl-C, already becomes words.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command; end with the exit code that fits what happened."""
    try:
        from foundry_lite.cli import faults
    except KeyboardInterrupt:  # in the first moments
        sys.exit(130)
    sys.exit(faults.code_of(_run, faults.tell))


def _run() -> None:
    from foundry_lite.cli.app import app

    app()


if __name__ == "__main__":
    main()

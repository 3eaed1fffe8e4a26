"""ML Studio from a terminal: no arguments open the window, anything else is the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """The program's entry point. Ends the process with the command's exit code."""
    from mlstudio.cli.main import cli

    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a curve's dots shall get question marks, not a crash.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    cli.main(prog_name="mlstudio")


if __name__ == "__main__":
    main()

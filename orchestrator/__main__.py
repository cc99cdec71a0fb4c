"""`bulk-restore` and `python -m orchestrator`: the command line, and nothing before it."""

from __future__ import annotations


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from orchestrator.cli import command
    from orchestrator.cli.process import settle

    settle()
    command(prog_name="bulk-restore")


if __name__ == "__main__":
    main()

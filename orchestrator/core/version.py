"""The version, in the one place that packaging, `--version` and every report read."""

__version__ = "0.3.0.dev0"

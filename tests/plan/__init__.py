"""The plan file: loading, references, expansion, locking."""

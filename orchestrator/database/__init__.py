"""A run's journal, leases and tokens in PostgreSQL."""

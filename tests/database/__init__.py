"""The rules of leases, chains and rights, on a real PostgreSQL."""

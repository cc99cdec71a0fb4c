"""A run's journal, leases and tokens in PostgreSQL.

The tables and the functions that alone may change them are in `schema/*.sql`. Every rule of the
lease and of the chains is kept there, so that a faulty worker cannot break it; `sites.Database`
asks them and implements `core.ports.sites`.

Nothing here is imported by a command without a database's address: psycopg is an extra.
"""

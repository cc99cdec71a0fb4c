"""One run over several machines in one loop on virtual time, from a seed.

processes  the loop: workers as processes that can be killed, frozen or hung
tables     what the database keeps, and its functions
database   the database: its clock, its restarts, its failover; connections to it
link       what goes wrong between a worker and the database
renewals   what renews a worker's leases beside its loop
stage      servers, a plan, a database and workers
witness    what must never be, seen where it happens
"""

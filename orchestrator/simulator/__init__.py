"""Simulated Enterprise Managers: the only servers this product can be tested against.

    inventory    generated machines, jobs, restore points, guest trees
    query        the query language
    manager      Enterprise Manager semantics without HTTP: sessions, tasks, mounts
    writing      its own XML; json_form makes JSON of it
    server       its REST face
    faults       scripted, seeded misbehaviour
    truth        what really happened, beside HTTP
    process      the same servers as separate HTTPS processes on loopback

Nothing is shared with `em`: a parser tested only against its own writer proves nothing.
Where the real server is awkward, so is this one, by default; see `behaviour`.
"""

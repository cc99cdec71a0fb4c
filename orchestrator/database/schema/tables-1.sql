-- Version 1: the tables. Nobody but their owner touches them: everybody else reads the views and
-- calls the functions. Times are the database's own; no client's clock comes in.

CREATE TABLE meta (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version int NOT NULL,
    code text NOT NULL,                 -- SHA-256 of the functions and views that are in place
    lease_life interval NOT NULL
);

CREATE TABLE run (
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,  -- their order; clocks may be set back
    id text PRIMARY KEY,
    plan text NOT NULL,
    mode text NOT NULL,
    started bytea NOT NULL,             -- the body of RunStarted
    content bytea NOT NULL,             -- the plan's bytes
    options jsonb NOT NULL,
    mounts_limit int,
    deadline_s double precision,
    submitted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    submitted_by name NOT NULL DEFAULT session_user,
    deadline_at timestamptz,
    timeline int NOT NULL,              -- of this database when that was last looked at
    failed_over_at timestamptz,         -- when another one was seen
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'ended')),
    halted text,
    stopped text CHECK (stopped IN ('gently', 'now')),
    unmount boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX run_open ON run (plan) WHERE state = 'open';

-- Files that the plan names, by the names that it has for them.
CREATE TABLE document (
    run text NOT NULL REFERENCES run ON DELETE CASCADE,
    name text NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (run, name)
);

-- A server's address: the counter of its epochs, and which shard has the right to post there.
CREATE TABLE address (
    address text PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 0,
    run text,
    server text
);

-- One server's part of a run; server '' is the conductor, which is of no site.
CREATE TABLE shard (
    run text NOT NULL REFERENCES run ON DELETE CASCADE,
    server text NOT NULL,
    site text,
    address text NOT NULL REFERENCES address,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'holding', 'done')),
    done_at timestamptz,
    quota int,
    PRIMARY KEY (run, server)
);
CREATE INDEX shard_unfinished ON shard (site) WHERE state <> 'done';

-- Who serves a shard. `worker` is null when it was given back. In a table of its own: a renewal
-- must not wait for a quota, nor for a commit that waits for a standby.
CREATE TABLE lease (
    run text NOT NULL,
    server text NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    worker text,
    login name,
    since timestamptz,
    expires timestamptz,
    wants int NOT NULL DEFAULT 0,
    turn_over timestamptz,              -- when its worker gave it back so that others have a turn
    takeovers int NOT NULL DEFAULT 0,
    PRIMARY KEY (run, server),
    FOREIGN KEY (run, server) REFERENCES shard ON DELETE CASCADE
);
CREATE INDEX lease_of_worker ON lease (worker);

-- Where a chain ends, and the last attempt to continue it.
CREATE TABLE head (
    run text NOT NULL REFERENCES run ON DELETE CASCADE,
    chain text NOT NULL,
    seq bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    attempt bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (run, chain)
);

-- Without a reference to `run`: the check would lock that row anew for each record.
CREATE TABLE event (
    run text NOT NULL,
    chain text NOT NULL,
    seq bigint NOT NULL,
    at double precision NOT NULL,       -- seconds since the run began
    kind text NOT NULL,
    body bytea NOT NULL,
    hash bytea NOT NULL,
    epoch bigint NOT NULL,
    PRIMARY KEY (run, chain, seq)
);

-- The waves that are open, and those of which nothing is submitted any more, and why.
CREATE TABLE gate (
    run text NOT NULL REFERENCES run ON DELETE CASCADE,
    wave text NOT NULL,
    skipped text,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run, wave)
);

-- Mounts in the making, open or in doubt: they count against the quota, through any takeover.
CREATE TABLE slot (
    run text NOT NULL,
    server text NOT NULL,
    key text NOT NULL,
    wave text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run, server, key),
    FOREIGN KEY (run, server) REFERENCES shard ON DELETE CASCADE
);
CREATE INDEX slot_of_wave ON slot (run, wave);

CREATE TABLE token (
    run text NOT NULL,
    server text NOT NULL,
    session text NOT NULL,
    epoch bigint NOT NULL,              -- in which it was sealed
    sealed bytea NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run, server, session),
    FOREIGN KEY (run, server) REFERENCES shard ON DELETE CASCADE
);

CREATE TABLE request (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text NOT NULL REFERENCES run ON DELETE CASCADE,
    ask text NOT NULL CHECK (ask IN ('stop', 'stop-now', 'unmount', 'resume')),
    who name NOT NULL DEFAULT session_user,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    details jsonb NOT NULL
);
CREATE INDEX request_of_run ON request (run, number);

CREATE TABLE worker (
    id text PRIMARY KEY,
    login name NOT NULL DEFAULT session_user,
    host text NOT NULL,
    pid int NOT NULL,
    version text NOT NULL,
    sites text[] NOT NULL,
    entered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    left_at timestamptz
);

-- How long mounts took, for the forecasts of later runs.
CREATE TABLE duration (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text NOT NULL REFERENCES run ON DELETE CASCADE,
    address text NOT NULL,
    simulated boolean NOT NULL,
    vm text NOT NULL,
    seconds double precision NOT NULL
);

-- What everybody with a role may read. No sealed token is among it.

CREATE VIEW about AS SELECT version, code, lease_life FROM meta;

CREATE VIEW runs AS
SELECT id AS run, plan, mode, submitted_at, submitted_by, deadline_at, state, halted, stopped,
       unmount, mounts_limit, number
FROM run;

CREATE VIEW submissions AS SELECT id AS run, started, content, options FROM run;

CREATE VIEW documents AS SELECT run, name, content FROM document;

CREATE VIEW shards AS
SELECT s.run, s.server, s.site, s.address, s.state, l.epoch, l.worker, l.since,
       extract(epoch FROM l.expires - clock_timestamp())::double precision AS lease_s,
       l.takeovers,  -- after a failover no part is worth anything, as for their holders
       CASE WHEN s.quota IS NULL OR r.failed_over_at IS NULL THEN s.quota ELSE 0 END AS quota,
       l.wants,
       (SELECT count(*) FROM slot m WHERE m.run = s.run AND m.server = s.server
           AND (s.done_at IS NULL OR s.done_at + interval '901 s' > clock_timestamp())) AS used,
       CASE WHEN s.state = 'open' AND a.run <> s.run THEN a.run END AS waits_for
FROM shard s
JOIN lease l USING (run, server)
JOIN address a ON a.address = s.address
JOIN run r ON r.id = s.run;

CREATE VIEW workers AS
SELECT id AS worker, host, pid, version, sites, entered_at,
       extract(epoch FROM clock_timestamp() - seen)::double precision AS seen_s
FROM worker WHERE left_at IS NULL;

CREATE VIEW heads AS SELECT run, chain, seq, hash FROM head;

CREATE VIEW events AS SELECT run, chain, seq, at, kind, body, hash, epoch FROM event;

-- Systems are read before each run, and few records are of them.
CREATE INDEX IF NOT EXISTS event_systems ON event (run) WHERE kind = 'SystemFound';

CREATE VIEW waves AS SELECT run, wave, skipped, opened_at FROM gate;

CREATE VIEW requests AS SELECT number, run, ask, who, at, details FROM request;

CREATE VIEW sessions AS SELECT run, server, session, epoch, kept_at FROM token;

CREATE VIEW durations AS SELECT id, run, address, simulated, vm, seconds FROM duration;

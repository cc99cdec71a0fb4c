-- Workers and leases: rule F1 of the fence. Who holds a lease is decided here, by this clock alone.

CREATE FUNCTION lease_life() RETURNS interval
LANGUAGE sql STABLE SET search_path = bulk_restore, pg_temp
AS $$ SELECT lease_life FROM meta $$;

-- Begins every call that changes something. What it promises must outlive a crash, whatever the
-- database's default is; and it must see what others have just committed.
CREATE FUNCTION begin_call() RETURNS void
LANGUAGE plpgsql SET search_path = bulk_restore, pg_temp
AS $$
BEGIN
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE 'the isolation level must be READ COMMITTED' USING ERRCODE = 'BR003';
    END IF;
END $$;

-- Each promotion of a standby begins another timeline. Source: PostgreSQL, "Timelines".
CREATE FUNCTION timeline() RETURNS int
LANGUAGE sql SET search_path = bulk_restore, pg_temp
AS $$ SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int $$;

-- Whether this database has just failed over: it may have lost which mounts are open, so nothing
-- is given that is shared. The living write again what was lost, once they have renewed. It may
-- have lost who has which part of the run's limit, too: `failed_over_at` stays until share() has
-- given the parts anew.
CREATE FUNCTION is_settling(p_run text) RETURNS boolean
LANGUAGE plpgsql SET search_path = bulk_restore, pg_temp
AS $$
DECLARE
    v_timeline CONSTANT int := timeline();
BEGIN
    IF EXISTS (SELECT FROM run WHERE id = p_run AND timeline <> v_timeline) THEN
        UPDATE run SET timeline = v_timeline, failed_over_at = clock_timestamp()
            WHERE id = p_run AND timeline <> v_timeline;
    END IF;
    RETURN EXISTS (SELECT FROM run
        WHERE id = p_run AND failed_over_at + lease_life() > clock_timestamp());
END $$;

-- Shards of a site are for everybody with the worker's role, unless there is a role for the site.
CREATE FUNCTION may_serve(p_site text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = bulk_restore, pg_temp
AS $$
    SELECT p_site IS NULL OR coalesce(
        (SELECT pg_has_role(session_user, oid, 'MEMBER') FROM pg_roles
         WHERE rolname = ('bulk_restore_site_' || p_site)::name),  -- cut off as CREATE ROLE does
        true)
$$;

-- What the holder of a lease has to know; for take() and renew() only.
CREATE VIEW standing AS
SELECT l.run, l.server, l.epoch, l.worker, l.login, s.site, s.address, s.state,
       greatest(extract(epoch FROM clock_timestamp() - r.submitted_at), 0)::double precision AS at,
       (SELECT coalesce(jsonb_object_agg(wave, skipped), '{}') FROM gate g WHERE g.run = l.run)
           AS waves,  -- null: open; else why it is skipped
       coalesce((a.run, a.server) = (l.run, l.server), false) AS posts,
       r.halted, r.stopped, r.unmount,
       CASE WHEN s.quota IS NULL OR r.failed_over_at IS NULL THEN s.quota ELSE 0 END AS quota,
       extract(epoch FROM r.deadline_at - clock_timestamp())::double precision AS deadline_s,
       coalesce((SELECT max(number) FROM request q WHERE q.run = l.run), 0) AS asked,
       h.seq, h.hash
FROM lease l
JOIN shard s USING (run, server)
JOIN run r ON r.id = l.run
JOIN address a ON a.address = s.address
JOIN head h ON h.run = l.run AND h.chain = l.server;

CREATE FUNCTION enter(p_worker text, p_host text, p_pid int, p_version text, p_sites text[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
BEGIN
    PERFORM begin_call();
    INSERT INTO worker AS w (id, host, pid, version, sites)
    VALUES (p_worker, p_host, p_pid, p_version, p_sites)
    ON CONFLICT (id) DO UPDATE
        SET host = p_host, pid = p_pid, version = p_version, sites = p_sites,
            seen = clock_timestamp(), left_at = NULL
        WHERE w.login = session_user;
    IF NOT FOUND THEN
        RAISE 'worker % belongs to another login', p_worker USING ERRCODE = 'BR003';
    END IF;
END $$;

CREATE FUNCTION leave(p_worker text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
BEGIN
    PERFORM begin_call();
    UPDATE worker SET left_at = clock_timestamp() WHERE id = p_worker AND login = session_user;
    PERFORM FROM lease WHERE worker = p_worker AND login = session_user
        ORDER BY run, server FOR NO KEY UPDATE;
    UPDATE lease SET worker = NULL, login = NULL, since = NULL, expires = NULL
        WHERE worker = p_worker AND login = session_user;
    PERFORM pg_notify('bulk_restore', '');
END $$;

-- Takes what nobody serves: every conductor, and so many shards of servers as there is room for.
-- Who had no turn yet goes first, then who had it longest ago. Rows that others are just taking, or
-- writing for, are passed over: the next look comes in a second. For one lease life after the start
-- of the database only what was given back is taken, so that living holders can renew first.
CREATE FUNCTION take(p_worker text, p_sites text[], p_room int, p_run text, p_expired boolean)
RETURNS TABLE (run text, server text, epoch bigint, at double precision, waves jsonb,
               posts boolean, halted text, stopped text, unmount boolean, quota int,
               deadline_s double precision, asked bigint, site text, address text, state text,
               seq bigint, hash bytea, taken_from text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c record;
    v_life CONSTANT interval := lease_life();
    v_may_expire CONSTANT boolean :=
        p_expired AND pg_postmaster_start_time() + v_life < clock_timestamp();
    v_posting text[] := '{}';
    v_epoch bigint;
    v_most int;
BEGIN
    PERFORM begin_call();
    UPDATE worker SET seen = clock_timestamp(), left_at = NULL
        WHERE id = p_worker AND login = session_user;
    IF NOT FOUND THEN
        RAISE 'worker % has not entered', p_worker USING ERRCODE = 'BR007';
    END IF;
    FOREACH v_most IN ARRAY ARRAY[NULL, greatest(p_room, 0)] LOOP  -- null: all conductors
        FOR c IN
            SELECT s.run, s.server, s.address, s.state, l.worker
            FROM shard s
            JOIN lease l USING (run, server)
            JOIN run r ON r.id = s.run
            JOIN address a ON a.address = s.address
            WHERE (s.server = '') = (v_most IS NULL)
              AND s.state <> 'done' AND (s.site IS NULL OR s.site = ANY (p_sites))
              AND (p_run IS NULL OR s.run = p_run) AND (r.state = 'open' OR r.unmount)
              AND (l.worker IS NULL OR (v_may_expire AND l.expires < clock_timestamp()))
              AND (s.state = 'holding' OR a.run IS NULL OR (a.run, a.server) = (s.run, s.server))
              AND may_serve(s.site)
            ORDER BY l.turn_over NULLS FIRST, r.mode = 'recovery' DESC, r.number, s.server
            LIMIT v_most
            FOR UPDATE OF l, a SKIP LOCKED
        LOOP
            CONTINUE WHEN c.state = 'open' AND c.address = ANY (v_posting);
            UPDATE address SET epoch = epoch + 1 WHERE address = c.address
                RETURNING epoch INTO v_epoch;
            IF c.state = 'open' THEN
                UPDATE address SET run = c.run, server = c.server WHERE address = c.address;
                v_posting := v_posting || c.address;
            END IF;
            UPDATE lease SET epoch = v_epoch, worker = p_worker, login = session_user,
                    since = clock_timestamp(), expires = clock_timestamp() + v_life, wants = 0,
                    takeovers = takeovers + (c.worker IS NOT NULL)::int
                WHERE run = c.run AND server = c.server;
            RETURN QUERY SELECT t.run, t.server, t.epoch, t.at, t.waves, t.posts, t.halted,
                    t.stopped, t.unmount, t.quota, t.deadline_s, t.asked, t.site, t.address,
                    t.state, t.seq, t.hash, c.worker
                FROM standing t WHERE t.run = c.run AND t.server = c.server;
        END LOOP;
    END LOOP;
END $$;

-- Renews what is still this worker's, also after it expired. It never waits for an append().
CREATE FUNCTION renew(p_worker text, p_runs text[], p_servers text[], p_epochs bigint[],
                      p_wants int[])
RETURNS TABLE (run text, server text, epoch bigint, at double precision, waves jsonb,
               posts boolean, halted text, stopped text, unmount boolean, quota int,
               deadline_s double precision, asked bigint, seq bigint, hash bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c record;
BEGIN
    PERFORM begin_call();
    UPDATE worker SET seen = clock_timestamp(), left_at = NULL
        WHERE id = p_worker AND login = session_user;
    PERFORM FROM lease l
        JOIN unnest(p_runs, p_servers, p_epochs) g (run, server, epoch) USING (run, server, epoch)
        WHERE l.worker = p_worker AND l.login = session_user
        ORDER BY l.run, l.server FOR NO KEY UPDATE OF l;
    UPDATE lease l SET expires = clock_timestamp() + lease_life(), wants = g.wants
        FROM unnest(p_runs, p_servers, p_epochs, p_wants) g (run, server, epoch, wants)
        WHERE l.run = g.run AND l.server = g.server AND l.epoch = g.epoch
          AND l.worker = p_worker AND l.login = session_user;
    FOR c IN  -- a run that was resumed posts again as soon as no other does
        SELECT s.run, s.server, a.address
        FROM lease l JOIN shard s USING (run, server) JOIN address a ON a.address = s.address
        WHERE l.worker = p_worker AND l.login = session_user AND s.state = 'open' AND a.run IS NULL
        FOR UPDATE OF a SKIP LOCKED
    LOOP
        UPDATE address SET run = c.run, server = c.server WHERE address = c.address AND run IS NULL;
    END LOOP;
    RETURN QUERY SELECT t.run, t.server, t.epoch, t.at, t.waves, t.posts, t.halted, t.stopped,
            t.unmount, t.quota, t.deadline_s, t.asked, t.seq, t.hash
        FROM standing t
        JOIN unnest(p_runs, p_servers, p_epochs) g (run, server, epoch) USING (run, server, epoch)
        WHERE t.worker = p_worker AND t.login = session_user
        ORDER BY t.run, t.server;
END $$;

-- `p_in_turn`: because others wait, so they go first now.
CREATE FUNCTION give_back(p_worker text, p_runs text[], p_servers text[], p_epochs bigint[],
                          p_in_turn boolean)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
BEGIN
    PERFORM begin_call();
    PERFORM FROM lease l
        JOIN unnest(p_runs, p_servers, p_epochs) g (run, server, epoch) USING (run, server, epoch)
        WHERE l.worker = p_worker AND l.login = session_user
        ORDER BY l.run, l.server FOR NO KEY UPDATE OF l;
    UPDATE lease l SET worker = NULL, login = NULL, since = NULL, expires = NULL, wants = 0,
            turn_over = CASE WHEN p_in_turn THEN clock_timestamp() ELSE turn_over END
        FROM unnest(p_runs, p_servers, p_epochs) g (run, server, epoch)
        WHERE l.run = g.run AND l.server = g.server AND l.epoch = g.epoch
          AND l.worker = p_worker AND l.login = session_user;
    PERFORM pg_notify('bulk_restore', '');
END $$;

-- Ends the call unless the worker holds this very lease; nobody can take it until the call ends.
CREATE FUNCTION require_lease(p_worker text, p_run text, p_server text, p_epoch bigint)
RETURNS void
LANGUAGE plpgsql SET search_path = bulk_restore, pg_temp
AS $$
BEGIN
    PERFORM FROM lease WHERE run = p_run AND server = p_server AND epoch = p_epoch
        AND worker = p_worker AND login = session_user FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE 'another worker serves this shard' USING ERRCODE = 'BR001';
    END IF;
END $$;

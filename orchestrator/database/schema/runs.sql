-- Runs: submitted, conducted, asked something of; and the sealed tokens of their sessions.

-- Makes a run with its shards and its first record. Repeated, it changes nothing.
CREATE FUNCTION submit(p_run text, p_plan text, p_mode text, p_started bytea, p_content bytea,
                       p_options jsonb, p_mounts_limit int, p_deadline_s double precision,
                       p_names text[], p_contents bytea[],
                       p_servers text[], p_sites text[], p_addresses text[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
DECLARE
    v_now CONSTANT timestamptz := clock_timestamp();
    v_open text;
    v_hash CONSTANT bytea := chain_hash(genesis(''), p_run, 1, 'RunStarted', p_started);
BEGIN
    PERFORM begin_call();
    IF EXISTS (SELECT FROM run WHERE id = p_run AND started = p_started) THEN
        RETURN;
    END IF;
    INSERT INTO run (id, plan, mode, started, content, options, mounts_limit, deadline_s,
                     submitted_at, deadline_at, timeline)
        VALUES (p_run, p_plan, p_mode, p_started, p_content, p_options, p_mounts_limit,
                p_deadline_s, v_now, v_now + make_interval(secs => p_deadline_s),
                timeline())
        ON CONFLICT (plan) WHERE state = 'open' DO NOTHING;
    IF NOT FOUND THEN
        SELECT id INTO v_open FROM run WHERE plan = p_plan AND state = 'open';
        IF v_open = p_run THEN RETURN; END IF;  -- the same call, made twice at once
        RAISE 'run % of plan % is open', v_open, p_plan USING ERRCODE = 'BR006';
    END IF;
    INSERT INTO document SELECT p_run, * FROM unnest(p_names, p_contents);
    INSERT INTO address SELECT 'run ' || p_run;
    INSERT INTO address SELECT DISTINCT unnest(p_addresses) ON CONFLICT DO NOTHING;
    INSERT INTO shard (run, server, site, address, quota)
        SELECT p_run, '', NULL, 'run ' || p_run, NULL::int
        UNION ALL
        SELECT p_run, u.server, u.site, u.address, CASE WHEN p_mounts_limit IS NOT NULL THEN 0 END
        FROM unnest(p_servers, p_sites, p_addresses) u (server, site, address);
    INSERT INTO lease (run, server) SELECT run, server FROM shard WHERE run = p_run;
    INSERT INTO head (run, chain, hash) SELECT run, server, genesis(server)
        FROM shard WHERE run = p_run;
    INSERT INTO event VALUES (p_run, '', 1, 0, 'RunStarted', p_started, v_hash, 0);
    UPDATE head SET seq = 1, hash = v_hash WHERE run = p_run AND chain = '';
    PERFORM pg_notify('bulk_restore', p_run);
END $$;

-- Parts of the run's limit: lowered first, never below what is used, then raised as far as the
-- limit allows. What every shard has at the end is returned. Right after a failover nothing
-- changes; then all parts are given anew, as none can be trusted to add up.
CREATE FUNCTION share(p_worker text, p_run text, p_epoch bigint, p_servers text[], p_wanted int[])
RETURNS TABLE (server text, quota int, used bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    w record;
    v_left int;
    v_anew boolean;
BEGIN
    PERFORM begin_call();
    PERFORM require_lease(p_worker, p_run, '', p_epoch);
    IF is_settling(p_run) THEN
        RETURN QUERY SELECT s.server, s.quota, used_slots(s.run, s.server)
            FROM shard s WHERE s.run = p_run AND s.server <> '' ORDER BY s.server;
        RETURN;
    END IF;
    UPDATE run SET failed_over_at = NULL WHERE id = p_run AND failed_over_at IS NOT NULL
        RETURNING true INTO v_anew;
    PERFORM FROM shard WHERE run = p_run AND server <> '' ORDER BY server FOR NO KEY UPDATE;
    IF v_anew THEN
        UPDATE shard s SET quota = least(s.quota, used_slots(s.run, s.server))
            WHERE s.run = p_run AND s.server <> '' AND s.quota IS NOT NULL;
    END IF;
    UPDATE shard s SET quota = greatest(u.wanted, used_slots(s.run, s.server))
        FROM unnest(p_servers, p_wanted) u (server, wanted)
        WHERE s.run = p_run AND s.server = u.server AND u.server <> '' AND s.quota > u.wanted;
    SELECT r.mounts_limit - sum(greatest(s.quota, used_slots(s.run, s.server))) INTO v_left
        FROM run r JOIN shard s ON s.run = r.id WHERE r.id = p_run GROUP BY r.mounts_limit;
    FOR w IN
        SELECT s.server, least(u.wanted - s.quota, v_left) AS more
        FROM unnest(p_servers, p_wanted) WITH ORDINALITY u (server, wanted, place)
        JOIN shard s ON s.run = p_run AND s.server = u.server
        WHERE s.quota < u.wanted
        ORDER BY u.place
    LOOP
        UPDATE shard SET quota = quota + greatest(least(w.more, v_left), 0)
            WHERE run = p_run AND server = w.server;
        v_left := v_left - greatest(least(w.more, v_left), 0);
    END LOOP;
    RETURN QUERY SELECT s.server, s.quota, used_slots(s.run, s.server)
        FROM shard s WHERE s.run = p_run AND s.server <> '' ORDER BY s.server;
    PERFORM pg_notify('bulk_restore', p_run);
END $$;

-- None of a shard that was done for so long that no session can live there any more: what it
-- may have left mounted is gone with it. Source: `engine.connection.FORGOTTEN_AFTER`.
CREATE FUNCTION used_slots(p_run text, p_server text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = bulk_restore, pg_temp
AS $$
    SELECT count(*) FROM slot JOIN shard USING (run, server)
    WHERE run = p_run AND server = p_server
      AND (done_at IS NULL OR done_at + interval '901 s' > clock_timestamp())
$$;

CREATE FUNCTION ask(p_run text, p_ask text, p_details jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
DECLARE
    r run;
    v_open text;
    v_number bigint;
BEGIN
    PERFORM begin_call();
    SELECT * INTO r FROM run WHERE id = p_run FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE 'there is no run %', p_run USING ERRCODE = 'BR002';
    END IF;
    IF p_ask IN ('unmount', 'resume') THEN  -- in the order of share()
        PERFORM FROM shard WHERE run = p_run ORDER BY server FOR NO KEY UPDATE;
    END IF;
    CASE p_ask
        WHEN 'stop' THEN
            UPDATE run SET stopped = coalesce(stopped, 'gently') WHERE id = p_run;
        WHEN 'stop-now' THEN
            UPDATE run SET stopped = 'now' WHERE id = p_run;
        WHEN 'unmount' THEN  -- in order, whatever was cut short before
            UPDATE run SET unmount = true,
                    stopped = CASE stopped WHEN 'now' THEN 'gently' ELSE stopped END
                WHERE id = p_run;
            UPDATE shard SET state = 'holding', done_at = NULL
                WHERE run = p_run AND state = 'done';
        WHEN 'resume' THEN
            SELECT id INTO v_open FROM run
                WHERE plan = r.plan AND state = 'open' AND id <> p_run;
            IF FOUND THEN
                RAISE 'run % of plan % is open', v_open, r.plan USING ERRCODE = 'BR006';
            END IF;
            UPDATE run SET state = 'open', halted = NULL, stopped = NULL, unmount = false,
                    deadline_at = clock_timestamp() + make_interval(secs => deadline_s)
                WHERE id = p_run;
            UPDATE shard SET state = 'open', done_at = NULL WHERE run = p_run;
    END CASE;
    INSERT INTO request (run, ask, details) VALUES (p_run, p_ask, p_details)
        RETURNING number INTO v_number;
    PERFORM pg_notify('bulk_restore', p_run);
    RETURN v_number;
END $$;

CREATE FUNCTION keep_token(p_worker text, p_run text, p_server text, p_epoch bigint,
                           p_session text, p_sealed bytea)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
BEGIN
    PERFORM begin_call();
    PERFORM require_lease(p_worker, p_run, p_server, p_epoch);
    PERFORM FROM shard WHERE run = p_run AND server = p_server AND state <> 'done'
        FOR SHARE;  -- its end waits, or this does
    IF NOT FOUND THEN  -- it came late: the tokens of its sessions are deleted by now
        RAISE 'nobody serves this shard any more' USING ERRCODE = 'BR001';
    END IF;
    INSERT INTO token VALUES (p_run, p_server, p_session, p_epoch, p_sealed)
        ON CONFLICT (run, server, session) DO UPDATE
        SET epoch = p_epoch, sealed = p_sealed, kept_at = clock_timestamp();
END $$;

CREATE FUNCTION tokens(p_worker text, p_run text, p_server text, p_epoch bigint)
RETURNS TABLE (session text, epoch bigint, sealed bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM begin_call();
    PERFORM require_lease(p_worker, p_run, p_server, p_epoch);
    RETURN QUERY SELECT t.session, t.epoch, t.sealed FROM token t
        WHERE t.run = p_run AND t.server = p_server ORDER BY t.kept_at;
END $$;

CREATE FUNCTION drop_token(p_worker text, p_run text, p_server text, p_epoch bigint,
                           p_session text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
BEGIN
    PERFORM begin_call();
    PERFORM require_lease(p_worker, p_run, p_server, p_epoch);
    DELETE FROM token WHERE run = p_run AND server = p_server AND session = p_session;
END $$;

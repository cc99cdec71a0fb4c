-- The chains: who may continue one, with what, and what a record changes beside it. Rule F2 of
-- the fence: an intent is granted in the transaction that records it, or not at all.

CREATE TYPE entry AS (
    seq bigint, at double precision, kind text, body bytea, hash bytea, effect jsonb
);

-- As `core.records.chain_hash`.
CREATE FUNCTION chain_hash(p_before bytea, p_run text, p_seq bigint, p_kind text, p_body bytea)
RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = bulk_restore, pg_temp
AS $$
    SELECT sha256(p_before
        || convert_to(concat(E'\n', p_run, E'\n', p_seq, E'\n', p_kind, E'\n'), 'UTF8') || p_body)
$$;

-- As `core.records.genesis`.
CREATE FUNCTION genesis(p_chain text) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = bulk_restore, pg_temp
AS $$
    SELECT CASE p_chain WHEN '' THEN decode(repeat('00', 32), 'hex')
        ELSE sha256(convert_to(E'chain\n' || p_chain, 'UTF8')) END
$$;

-- Null: granted, and its slot taken. Else why not, as `core.sites.Refusal`. append() has locked the
-- run's row, so that no intent is granted after a halt or a stop was committed, and the gate of a
-- wave with a limit.
CREATE FUNCTION refusal(p_run text, p_server text, p_key text, p_wave text, p_wave_limit int)
RETURNS text
LANGUAGE plpgsql SET search_path = bulk_restore, pg_temp
AS $$
DECLARE
    r run;
    v_quota int;
BEGIN
    SELECT * INTO r FROM run WHERE id = p_run;
    IF r.state <> 'open' THEN RETURN 'closed'; END IF;
    IF r.halted IS NOT NULL THEN RETURN 'halted'; END IF;
    IF r.stopped IS NOT NULL THEN RETURN 'stopped'; END IF;
    IF r.deadline_at <= clock_timestamp() THEN RETURN 'deadline'; END IF;
    PERFORM FROM gate WHERE run = p_run AND wave = p_wave AND skipped IS NULL;
    IF NOT FOUND THEN RETURN 'wave'; END IF;
    SELECT quota INTO v_quota FROM shard WHERE run = p_run AND server = p_server
        FOR NO KEY UPDATE;  -- share() waits, or this does
    IF NOT EXISTS (SELECT FROM address WHERE run = p_run AND server = p_server) THEN
        RETURN 'address';
    END IF;
    IF EXISTS (SELECT FROM slot WHERE run = p_run AND server = p_server AND key = p_key) THEN
        RETURN NULL;
    END IF;
    IF coalesce(v_quota, p_wave_limit) IS NOT NULL AND is_settling(p_run) THEN
        RETURN 'settling';
    END IF;
    IF v_quota IS NOT NULL AND r.failed_over_at IS NOT NULL THEN
        RETURN 'settling';  -- the parts may be those from before the last change of them
    END IF;
    IF v_quota <= (SELECT count(*) FROM slot WHERE run = p_run AND server = p_server) THEN
        RETURN 'quota';
    END IF;
    IF p_wave_limit <= (SELECT count(*) FROM slot WHERE run = p_run AND wave = p_wave) THEN
        RETURN 'wave limit';
    END IF;
    INSERT INTO slot (run, server, key, wave) VALUES (p_run, p_server, p_key, p_wave);
    RETURN NULL;
END $$;

CREATE FUNCTION let_others_post(p_run text, p_server text) RETURNS void
LANGUAGE sql SET search_path = bulk_restore, pg_temp
AS $$ UPDATE address SET run = NULL, server = NULL WHERE run = p_run AND server = p_server $$;

-- Does what a record changes beside its chain; returns why an intent is refused, or null.
CREATE FUNCTION take_effect(p_run text, p_chain text, p_effect jsonb) RETURNS text
LANGUAGE plpgsql SET search_path = bulk_restore, pg_temp
AS $$
BEGIN
    CASE p_effect ->> 'type'
        WHEN 'intent' THEN
            IF (p_effect ->> 'granted')::boolean THEN  -- by a database that has failed over
                INSERT INTO slot (run, server, key, wave)
                    VALUES (p_run, p_chain, p_effect ->> 'key', p_effect ->> 'wave')
                    ON CONFLICT DO NOTHING;
                RETURN NULL;
            END IF;
            RETURN refusal(p_run, p_chain, p_effect ->> 'key', p_effect ->> 'wave',
                           (p_effect ->> 'wave_limit')::int);
        WHEN 'freed' THEN
            DELETE FROM slot WHERE run = p_run AND server = p_chain AND key = p_effect ->> 'key';
            INSERT INTO duration (run, address, simulated, vm, seconds)
                SELECT p_run, address, (p_effect ->> 'simulated')::boolean, p_effect ->> 'vm',
                       (p_effect ->> 'seconds')::double precision
                FROM shard WHERE run = p_run AND server = p_chain
                    AND p_effect ->> 'seconds' IS NOT NULL;
        WHEN 'opened' THEN
            INSERT INTO gate (run, wave) VALUES (p_run, p_effect ->> 'wave')
                ON CONFLICT DO NOTHING;
        WHEN 'skipped' THEN
            INSERT INTO gate (run, wave, skipped)
                VALUES (p_run, p_effect ->> 'wave', p_effect ->> 'reason')
                ON CONFLICT DO NOTHING;
        WHEN 'halted' THEN
            UPDATE run SET halted = p_effect ->> 'reason' WHERE id = p_run AND halted IS NULL;
        WHEN 'ended' THEN
            UPDATE run SET state = 'ended', unmount = false WHERE id = p_run;
            UPDATE shard SET state = 'done' WHERE run = p_run AND server = '';
            -- Of every shard, also one that nobody serves any more: its run posts nothing.
            UPDATE address SET run = NULL, server = NULL WHERE run = p_run;
        WHEN 'holding' THEN
            UPDATE shard SET state = 'holding' WHERE run = p_run AND server = p_chain;
            PERFORM let_others_post(p_run, p_chain);
        WHEN 'done' THEN
            UPDATE shard SET state = 'done', done_at = clock_timestamp()
                WHERE run = p_run AND server = p_chain;
            PERFORM let_others_post(p_run, p_chain);
            -- One of them may have been kept late, or be back since a failover.
            DELETE FROM token WHERE run = p_run AND server = p_chain
                AND session IN (SELECT jsonb_array_elements_text(p_effect -> 'over'));
    END CASE;
    RETURN NULL;
END $$;

-- Whether the records are there that a pin covers: a failover may have lost them since they were read.
CREATE FUNCTION is_true_pin(p_run text, p_body bytea) RETURNS boolean
LANGUAGE sql STABLE SET search_path = bulk_restore, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM (SELECT convert_from(p_body, 'UTF8')::jsonb) AS p (pin), event
        WHERE run = p_run AND chain = pin ->> 'chain' AND seq = (pin ->> 'seq')::bigint
            AND hash = decode(pin ->> 'hash', 'hex'))
$$;

-- Whether this chain may have such a record. What posts is an intent, however it is sent here.
CREATE FUNCTION is_allowed(p_chain text, p_kind text, p_effect jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = bulk_restore, pg_temp
AS $$
    SELECT (p_kind = 'SubmissionStarted') = (coalesce(p_effect ->> 'type', '') = 'intent')
       AND coalesce(p_effect ->> 'type' = ANY (CASE p_chain
                WHEN '' THEN '{opened,skipped,halted,ended}'::text[]
                ELSE '{intent,freed,holding,done}'::text[] END), true)
$$;

CREATE FUNCTION append_chain(p_worker text, p_attempt bigint, p_run text, p_chain text,
                             p_epoch bigint, p_entries entry[],
                             OUT outcome text, OUT seq bigint, OUT hash bytea, OUT why text)
LANGUAGE plpgsql SET search_path = bulk_restore, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    h head;
    e entry;
BEGIN
    PERFORM FROM lease WHERE run = p_run AND server = p_chain AND epoch = p_epoch
        AND worker = p_worker AND login = session_user
        FOR KEY SHARE;  -- keeps out a take(), but no renew()
    IF NOT FOUND THEN
        outcome := 'fenced';
        RETURN;
    END IF;
    SELECT * INTO h FROM head WHERE run = p_run AND chain = p_chain FOR UPDATE;
    outcome := CASE WHEN h.epoch = p_epoch AND h.attempt >= p_attempt THEN 'stale'
                    ELSE 'repeated' END;
    FOREACH e IN ARRAY CASE outcome WHEN 'stale' THEN '{}' ELSE p_entries END LOOP
        IF e.seq <= h.seq THEN
            PERFORM FROM event WHERE run = p_run AND chain = p_chain AND seq = e.seq
                AND hash = e.hash;
            CONTINUE WHEN FOUND;
            why := 'fork';
        ELSIF e.seq > h.seq + 1 THEN
            why := 'gap';
        ELSIF e.hash IS DISTINCT FROM chain_hash(h.hash, p_run, e.seq, e.kind, e.body) THEN
            why := 'hash';
        ELSIF NOT is_allowed(p_chain, e.kind, e.effect) THEN
            why := 'effect';
        END IF;
        IF why IS NOT NULL THEN
            outcome := 'unfit';
            EXIT;
        END IF;
        IF e.kind = 'ChainPinned' AND NOT is_true_pin(p_run, e.body) THEN
            why := 'settling';
        ELSIF e.effect IS NOT NULL THEN
            why := take_effect(p_run, p_chain, e.effect);
        END IF;
        IF why IS NOT NULL THEN
            outcome := 'refused';
            EXIT;
        END IF;
        INSERT INTO event VALUES
            (p_run, p_chain, e.seq, e.at, e.kind, e.body, e.hash, p_epoch);
        h.seq := e.seq;
        h.hash := e.hash;
        outcome := 'written';
    END LOOP;
    -- Always written: so the commit of a repetition waits for the standby as the first one did.
    UPDATE head SET seq = h.seq, hash = h.hash, epoch = p_epoch,
            attempt = greatest(p_attempt, CASE h.epoch WHEN p_epoch THEN h.attempt END)
        WHERE run = p_run AND chain = p_chain;
    seq := h.seq;
    hash := h.hash;
END $$;

-- Continues several chains at once. `p_of` names the chain of each entry by its place; entries of
-- a chain are in order. Chains are locked in the order of their names, so that no two calls
-- wait for each other.
CREATE FUNCTION append(p_worker text, p_attempt bigint,
                       p_runs text[], p_chains text[], p_epochs bigint[],
                       p_of int[], p_seqs bigint[], p_ats double precision[], p_kinds text[],
                       p_bodies bytea[], p_hashes bytea[], p_effects jsonb[])
RETURNS TABLE (place int, outcome text, seq bigint, hash bytea, why text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bulk_restore, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c record;
BEGIN
    PERFORM begin_call();
    -- All that calls have in common is locked here, in one order, so that no two calls wait for each
    -- other: runs, then gates. Nothing is shared first and changed later. That a failover is noted
    -- may lock a run, too, also where another call has noted it meanwhile: an UPDATE that has waited
    -- keeps the row although it does not fit any more.
    FOR c IN
        SELECT p_runs[u.chain_at] AS run,
               bool_or(u.effect ->> 'type' IN ('halted', 'ended')) AS is_changed
        FROM unnest(p_of, p_effects) u (chain_at, effect)
        WHERE u.effect ->> 'type' IN ('intent', 'halted', 'ended')
        GROUP BY 1 ORDER BY 1
    LOOP
        PERFORM is_settling(c.run);
        IF c.is_changed THEN
            PERFORM FROM run WHERE id = c.run FOR NO KEY UPDATE;
        ELSE
            PERFORM FROM run WHERE id = c.run FOR SHARE;
        END IF;
    END LOOP;
    -- The others of a wave wait, so that its limit holds.
    PERFORM FROM gate g WHERE (g.run, g.wave) IN (
            SELECT p_runs[u.chain_at], u.effect ->> 'wave'
            FROM unnest(p_of, p_effects) u (chain_at, effect)
            WHERE u.effect ->> 'type' = 'intent' AND u.effect ->> 'wave_limit' IS NOT NULL)
        ORDER BY g.run, g.wave FOR NO KEY UPDATE;
    FOR c IN
        SELECT u.chain_at,
               array_agg(ROW(u.seq, u.at, u.kind, u.body, u.hash, u.effect)::entry
                         ORDER BY u.ordinal) AS entries
        FROM unnest(p_of, p_seqs, p_ats, p_kinds, p_bodies, p_hashes, p_effects)
            WITH ORDINALITY u (chain_at, seq, at, kind, body, hash, effect, ordinal)
        GROUP BY u.chain_at
        ORDER BY p_runs[u.chain_at], p_chains[u.chain_at]
    LOOP
        RETURN QUERY SELECT c.chain_at, a.outcome, a.seq, a.hash, a.why
            FROM append_chain(p_worker, p_attempt, p_runs[c.chain_at], p_chains[c.chain_at],
                              p_epochs[c.chain_at], c.entries) a;
    END LOOP;
    PERFORM pg_notify('bulk_restore', run) FROM (
        SELECT DISTINCT p_runs[u.chain_at] FROM unnest(p_of, p_effects) u (chain_at, effect)
        WHERE u.effect ->> 'type' NOT IN ('intent', 'freed')
    ) n (run);  -- of what others wait for; they look by themselves, too
END $$;

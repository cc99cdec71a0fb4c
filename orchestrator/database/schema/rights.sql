-- Who may do what. Applied at every `init`, so that a right which was taken away comes back.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA bulk_restore FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA bulk_restore
    FROM PUBLIC, bulk_restore_reader, bulk_restore_operator, bulk_restore_worker;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA bulk_restore
    FROM bulk_restore_reader, bulk_restore_operator, bulk_restore_worker;

GRANT USAGE ON SCHEMA bulk_restore
    TO bulk_restore_reader, bulk_restore_operator, bulk_restore_worker;
GRANT SELECT ON about, runs, submissions, documents, shards, workers, heads, events, waves,
    requests, sessions, durations
    TO bulk_restore_reader, bulk_restore_operator, bulk_restore_worker;

GRANT EXECUTE ON FUNCTION submit, ask TO bulk_restore_operator;

GRANT EXECUTE ON FUNCTION enter, leave, take, renew, give_back, append, share,
    keep_token, tokens, drop_token
    TO bulk_restore_worker;

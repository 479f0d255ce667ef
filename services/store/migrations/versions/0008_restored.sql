-- A database may be restored from a backup, also into another cluster, whose transaction numbers begin anew. What
-- streams alert changes goes by those numbers, so a restored database counts on from far above every number that was
-- ever given out: nothing waits for the counter to pass, and a place a reader remembers is still before what is new.

CREATE FUNCTION stream_base() RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 0::bigint $$;
COMMENT ON FUNCTION stream_base IS 'added to transaction numbers in alert_event; raised by keepwell restore';
CREATE FUNCTION stream_place() RETURNS xid8 LANGUAGE sql VOLATILE AS
$$ SELECT (pg_current_xact_id()::text::bigint + public.stream_base())::text::xid8 $$;
-- Below it nothing can appear any more: readers see only events whose xid is smaller.
CREATE FUNCTION stream_horizon() RETURNS xid8 LANGUAGE sql STABLE AS
$$ SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + public.stream_base())::text::xid8 $$;
ALTER TABLE alert_event ALTER COLUMN xid SET DEFAULT public.stream_place();

-- Every process may ask which schema this is, and refuses to run on another than its own.
GRANT SELECT ON alembic_version TO keepwell_writer, keepwell_api, keepwell_gateway;

-- Who did what to whose data, why, from where and with what outcome; sealed into a chain of hashes (docs/audit.md).
-- keepwell_auditor can't log in. It owns the rows, the chain and the two functions by which the application's role
-- seals and searches: that role itself may only add rows.

ALTER TABLE access_audit ALTER COLUMN organisation_id DROP NOT NULL;  -- null: the whole installation, e.g. a backup
ALTER TABLE access_audit ALTER COLUMN person_id DROP NOT NULL;
ALTER TABLE access_audit
    ADD COLUMN actor text NOT NULL DEFAULT 'person' CHECK (actor IN ('person', 'service', 'command')),
    ADD COLUMN name text NOT NULL DEFAULT '',        -- of a service, or of who ran a command; a person's is looked up
    ADD COLUMN role text NOT NULL DEFAULT '',        -- the person's at that time
    ADD COLUMN purpose text NOT NULL DEFAULT 'care',
    ADD COLUMN reason text NOT NULL DEFAULT '',
    ADD COLUMN address text NOT NULL DEFAULT '',
    ADD COLUMN agent text NOT NULL DEFAULT '',
    ADD COLUMN outcome text NOT NULL DEFAULT 'allowed' CHECK (outcome IN ('allowed', 'refused', 'failed')),
    ADD COLUMN request_id text NOT NULL DEFAULT '',
    ADD COLUMN recorded_at timestamptz,              -- by the database's own clock; null: before there was a chain
    ADD COLUMN xid xid8 NOT NULL DEFAULT stream_place(),
    ADD CONSTRAINT one_who CHECK ((actor = 'person') = (person_id IS NOT NULL)),
    ADD CONSTRAINT instant CHECK (at BETWEEN '2000-01-01Z' AND '2200-01-01Z');
ALTER TABLE access_audit ALTER COLUMN recorded_at SET DEFAULT clock_timestamp();
CREATE INDEX ON access_audit (xid, id);              -- the order of the chain
CREATE INDEX ON access_audit (patient_id, id) WHERE patient_id IS NOT NULL;
CREATE INDEX ON access_audit USING gin ((detail -> 'patient_ids') jsonb_path_ops) WHERE detail ? 'patient_ids';
CREATE INDEX ON access_audit (person_id, id);
CREATE INDEX ON access_audit USING brin (at);

CREATE TABLE audit_block (               -- one link of the chain: the rows that were sealed together
    number bigint PRIMARY KEY,
    sealed_at timestamptz NOT NULL,      -- by the database's own clock
    total bigint NOT NULL,               -- rows sealed up to here, these included
    xid xid8 NOT NULL,                   -- of the last row: the next block begins after it
    last_id bigint NOT NULL,
    ids bigint[] NOT NULL,               -- of the rows, in the chain's order
    leaves bytea NOT NULL,               -- their hashes, 32 bytes each
    previous bytea NOT NULL,             -- hash of the block before; of the first: random, so that no two chains begin alike
    hash bytea NOT NULL
);

---------------------------------------------------------------- the canonical form, version 1
-- The same as services/store/audit_chain.py: each field as its length in bytes (4, big-endian) and its UTF-8 text;
-- a null as four bytes ff. Instants are whole microseconds since 1970.
CREATE FUNCTION audit_packed(fields text[]) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT string_agg(coalesce(int4send(octet_length(f)) || convert_to(f, 'UTF8'), '\xffffffff'::bytea), ''::bytea ORDER BY n)
    FROM unnest(fields) WITH ORDINALITY AS u (f, n)
$$;
CREATE FUNCTION audit_instant(at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (extract(epoch FROM at) * 1000000)::bigint::text $$;
CREATE FUNCTION audit_leaf(a access_audit) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT sha256(public.audit_packed(ARRAY[
        'keepwell audit row', '1', a.id::text, a.xid::text, public.audit_instant(a.recorded_at), public.audit_instant(a.at),
        a.organisation_id::text, a.actor, a.person_id::text, a.name, a.role, a.action, a.patient_id::text, a.purpose,
        a.reason, a.address, a.agent, a.outcome, a.request_id, a.detail::text]))
$$;
CREATE FUNCTION audit_block_hash(b audit_block) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT sha256(public.audit_packed(ARRAY[
        'keepwell audit block', '1', b.number::text, public.audit_instant(b.sealed_at), b.total::text, b.xid::text,
        b.last_id::text, array_to_string(b.ids, ','), encode(sha256(b.leaves), 'hex'), encode(b.previous, 'hex')]))
$$;
INSERT INTO audit_block VALUES (0, clock_timestamp(), 0, '0', 0, '{}', '', uuid_send(gen_random_uuid()), '');
UPDATE audit_block b SET hash = audit_block_hash(b);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_block
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

---------------------------------------------------------------- the sealer
-- Seal the next rows into one block, at most p_most of them, in the order (xid, id). Only rows below the horizon are
-- taken: nothing can appear before them any more, so no commit order leaves one out. One caller at a time; the others
-- are told how it stands. It takes no data: who may call it can't choose what is sealed.
CREATE FUNCTION seal_audit(p_most int, OUT sealed int, OUT waited_s double precision, OUT chain bytea, OUT newest bigint,
                           OUT sealed_at timestamptz, OUT total bigint, OUT hash bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    head audit_block;
    made audit_block;
BEGIN
    sealed := 0;
    IF pg_try_advisory_xact_lock(hashtext('keepwell seal audit')) THEN
        SELECT b.* INTO STRICT head FROM audit_block b ORDER BY b.number DESC LIMIT 1;
        waited_s := audit_waiting(head);
        SELECT array_agg(r.id ORDER BY r.xid, r.id), string_agg(r.leaf, ''::bytea ORDER BY r.xid, r.id),
               (array_agg(r.xid ORDER BY r.xid DESC, r.id DESC))[1]
        INTO made.ids, made.leaves, made.xid
        FROM (SELECT a.id, a.xid, audit_leaf(a) AS leaf FROM access_audit a
              WHERE (a.xid, a.id) > (head.xid, head.last_id) AND a.xid < stream_horizon()
              ORDER BY a.xid, a.id LIMIT least(p_most, 10000)) AS r;
        IF made.ids IS NOT NULL THEN
            sealed := cardinality(made.ids);
            made.number := head.number + 1;
            made.sealed_at := clock_timestamp();
            made.total := head.total + sealed;
            made.last_id := made.ids[sealed];
            made.previous := head.hash;
            made.hash := audit_block_hash(made);
            INSERT INTO audit_block SELECT made.*;
        END IF;
    END IF;
    SELECT b.* INTO STRICT head FROM audit_block b ORDER BY b.number DESC LIMIT 1;
    waited_s := coalesce(waited_s, audit_waiting(head));
    SELECT b.hash INTO STRICT chain FROM audit_block b WHERE b.number = 0;
    newest := head.number;
    sealed_at := head.sealed_at;
    total := head.total;
    hash := head.hash;
END $$;
-- How long the oldest row after a block has waited, in seconds; 0 without one.
CREATE FUNCTION audit_waiting(b audit_block) RETURNS double precision LANGUAGE sql VOLATILE AS $$
    SELECT coalesce((SELECT extract(epoch FROM clock_timestamp() - a.recorded_at)::double precision FROM public.access_audit a
                     WHERE (a.xid, a.id) > (b.xid, b.last_id) ORDER BY a.xid, a.id LIMIT 1), 0)
$$;

---------------------------------------------------------------- the search
-- Rows of the transaction's organisation, and those of the whole installation, the newest first. A function, because
-- the policies' barrier would keep the index of the patients on a list from being used.
CREATE FUNCTION audit_rows(p_patient int, p_person int, p_action text, p_from timestamptz, p_to timestamptz,
                           p_before bigint, p_most int) RETURNS SETOF access_audit
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE
        'SELECT a.* FROM access_audit a WHERE (a.organisation_id = current_organisation()
             OR a.organisation_id IS NULL AND current_organisation() IS NOT NULL)'
        || CASE WHEN p_patient IS NULL THEN '' ELSE
             ' AND (a.patient_id = $1 OR a.detail ? ''patient_ids'' AND a.detail -> ''patient_ids'' @> to_jsonb($1))' END
        || CASE WHEN p_person IS NULL THEN '' ELSE ' AND a.person_id = $2' END
        || CASE WHEN p_action IS NULL THEN '' ELSE ' AND a.action = $3' END
        || CASE WHEN p_from IS NULL THEN '' ELSE ' AND a.at >= $4' END
        || CASE WHEN p_to IS NULL THEN '' ELSE ' AND a.at < $5' END
        || CASE WHEN p_before IS NULL THEN '' ELSE ' AND a.id < $6' END
        || ' ORDER BY a.id DESC LIMIT $7'
        USING p_patient, p_person, p_action, p_from, p_to, p_before, p_most;
END $$;
-- What was done with one patient's data, a row for each day (of the patient's), somebody and kind of access.
CREATE FUNCTION audit_of_patient(p_patient int, p_from timestamptz, p_to timestamptz, p_zone text)
RETURNS TABLE (day date, actor text, person_id int, name text, role text, action text, purpose text, outcome text,
               times bigint, first_at timestamptz, last_at timestamptz, newest bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT (a.at AT TIME ZONE p_zone)::date, a.actor, a.person_id, a.name, a.role, a.action, a.purpose, a.outcome,
           count(*), min(a.at), max(a.at), max(a.id)
    FROM access_audit a
    WHERE a.organisation_id = current_organisation() AND a.at >= p_from AND a.at < p_to
      AND (a.patient_id = p_patient OR a.detail ? 'patient_ids' AND a.detail -> 'patient_ids' @> to_jsonb(p_patient))
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
$$;

---------------------------------------------------------------- whose it is, and who may do what
GRANT USAGE ON SCHEMA public TO keepwell_auditor;
GRANT CREATE ON SCHEMA public TO keepwell_auditor;
ALTER TABLE access_audit OWNER TO keepwell_auditor;
ALTER TABLE audit_block OWNER TO keepwell_auditor;
ALTER FUNCTION seal_audit OWNER TO keepwell_auditor;
ALTER FUNCTION audit_rows OWNER TO keepwell_auditor;
ALTER FUNCTION audit_of_patient OWNER TO keepwell_auditor;
REVOKE CREATE ON SCHEMA public FROM keepwell_auditor;
CREATE POLICY auditor ON access_audit FOR SELECT TO keepwell_auditor USING (true);
REVOKE ALL ON FUNCTION seal_audit, audit_rows, audit_of_patient, audit_waiting FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_waiting TO keepwell_auditor;
GRANT EXECUTE ON FUNCTION seal_audit, audit_rows, audit_of_patient TO keepwell_api;
REVOKE ALL ON access_audit FROM keepwell_api, keepwell_writer;
REVOKE ALL ON access_audit, audit_block FROM keepwell_auditor;  -- its functions read rows and add blocks, no more
GRANT SELECT ON access_audit TO keepwell_auditor;
GRANT SELECT, INSERT ON audit_block TO keepwell_auditor;
GRANT INSERT (at, organisation_id, person_id, actor, name, role, action, patient_id, purpose, reason, address, agent,
              outcome, request_id, detail) ON access_audit TO keepwell_api, keepwell_writer;

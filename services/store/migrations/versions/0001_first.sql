-- The first schema. Roles (keepwell_writer, keepwell_api, keepwell_gateway: login; keepwell_reader: no login)
-- are made by services/store/migrate.py before this runs. Nothing here is owned by a role that a process logs in as.
-- Every table with patient data has row-level security; hypertables are reached by the API only through views,
-- because TimescaleDB copies grants to chunks but not row security.

CREATE EXTENSION IF NOT EXISTS timescaledb;
CREATE EXTENSION IF NOT EXISTS btree_gist;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO keepwell_writer, keepwell_api, keepwell_gateway, keepwell_reader;

-- The organisation set inside the transaction; none set: NULL, which matches no row.
CREATE FUNCTION current_organisation() RETURNS int LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('keepwell.organisation', true), '')::int $$;

---------------------------------------------------------------- people, patients, devices
CREATE TABLE organisation (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    name text NOT NULL
);
CREATE TABLE patient (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL REFERENCES organisation,
    key text NOT NULL,
    name text NOT NULL,
    time_zone text NOT NULL DEFAULT 'UTC',
    enrolled_at timestamptz NOT NULL,
    UNIQUE (organisation_id, key)
);
CREATE TABLE device (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL REFERENCES organisation,
    key text NOT NULL UNIQUE,
    model text NOT NULL DEFAULT 'unknown',
    created_at timestamptz NOT NULL
);
CREATE TABLE device_assignment (
    device_id int NOT NULL REFERENCES device,
    patient_id int NOT NULL REFERENCES patient,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz NOT NULL DEFAULT 'infinity',
    EXCLUDE USING gist (device_id WITH =, tstzrange(valid_from, valid_to) WITH &&)
);
CREATE TABLE device_token (
    hash bytea PRIMARY KEY,            -- SHA-256 of a 256-bit random token
    device_id int NOT NULL REFERENCES device,
    mqtt_hash text NOT NULL,           -- the same token as mosquitto wants it
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX ON device_token (device_id);
CREATE TABLE person (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL REFERENCES organisation,
    key text NOT NULL,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('clinician', 'nurse', 'administrator')),
    UNIQUE (organisation_id, key)
);
CREATE TABLE person_token (
    hash bytea PRIMARY KEY,            -- SHA-256 of a 256-bit random token
    person_id int NOT NULL REFERENCES person,
    kind text NOT NULL CHECK (kind IN ('login_link', 'session', 'api')),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,               -- a login link works once
    revoked_at timestamptz
);
CREATE TABLE access_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    organisation_id int NOT NULL,
    person_id int NOT NULL,
    action text NOT NULL,
    patient_id int,
    detail jsonb NOT NULL DEFAULT '{}'
);

---------------------------------------------------------------- what was measured
CREATE TABLE metric (
    id smallint PRIMARY KEY,
    key text NOT NULL UNIQUE,
    title text NOT NULL,
    unit text NOT NULL,
    loinc text,
    kind text NOT NULL,
    aggregation text NOT NULL,
    decimals smallint NOT NULL
);
CREATE TABLE reading_block (
    patient_id int NOT NULL,
    metric_id smallint NOT NULL,
    device_id int NOT NULL,
    t0 timestamptz NOT NULL,
    t_last timestamptz NOT NULL,
    step_us int NOT NULL,              -- 0 when offsets_ms tells the instants; always whole milliseconds
    offsets_ms int[],
    value real[] NOT NULL,
    quality smallint[],                -- null: all good
    PRIMARY KEY (patient_id, metric_id, device_id, t0),
    CHECK (t_last >= t0 AND t_last <= t0 + interval '1 hour')
);
SELECT create_hypertable('reading_block', by_range('t0', interval '7 days'), create_default_indexes => false);
CREATE TABLE waveform_block (
    patient_id int NOT NULL,
    metric_id smallint NOT NULL,
    device_id int NOT NULL,
    t0 timestamptz NOT NULL,
    step_us int NOT NULL,
    scale real NOT NULL,
    "offset" real NOT NULL,
    sample smallint[] NOT NULL,
    PRIMARY KEY (patient_id, metric_id, device_id, t0)
);
SELECT create_hypertable('waveform_block', by_range('t0', interval '1 day'), create_default_indexes => false);
CREATE TABLE reading_conflict (        -- same instant, other value: kept beside, counted; the first accepted one wins
    patient_id int NOT NULL,
    metric_id smallint NOT NULL,
    device_id int NOT NULL,
    t timestamptz NOT NULL,
    value real NOT NULL,
    frame_id text NOT NULL,
    PRIMARY KEY (patient_id, metric_id, device_id, t, value)
);
CREATE TABLE quarantined_reading (     -- impossible values: never readings, never lost
    patient_id int NOT NULL,
    metric_id smallint NOT NULL,
    device_id int NOT NULL,
    t timestamptz NOT NULL,
    value real NOT NULL,
    reason text NOT NULL,
    frame_id text NOT NULL,
    PRIMARY KEY (patient_id, metric_id, device_id, t, value)
);
CREATE TABLE dead_letter (             -- records that could not be processed, byte for byte
    topic text NOT NULL,
    partition int NOT NULL,
    record_offset bigint NOT NULL,
    reason text NOT NULL,              -- a code
    detail text NOT NULL,
    record_key bytea,
    record bytea NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, record_offset)
);
CREATE TABLE frame_log (               -- a frame's fate
    frame_id text PRIMARY KEY,
    organisation_id int NOT NULL,
    patient_id int NOT NULL,
    device_id int NOT NULL,
    received_at timestamptz NOT NULL,
    processed_at timestamptz NOT NULL,
    deliveries int NOT NULL,           -- how often it came; the counts below are those of all deliveries
    stored int NOT NULL,
    duplicate int NOT NULL,
    conflict int NOT NULL,
    quarantined int NOT NULL,
    late int NOT NULL,                 -- of the stored ones, how many came after the reordering bound
    t_first timestamptz,
    t_last timestamptz
);
CREATE TABLE rollup (
    patient_id int NOT NULL,
    metric_id smallint NOT NULL,
    bucket_s int NOT NULL CHECK (bucket_s IN (60, 3600, 86400)),
    t0 timestamptz NOT NULL,
    n int NOT NULL,
    low real NOT NULL,
    high real NOT NULL,
    mean double precision NOT NULL,
    q10 real NOT NULL,
    q90 real NOT NULL,
    PRIMARY KEY (patient_id, metric_id, bucket_s, t0)
);
SELECT create_hypertable('rollup', by_range('t0', interval '30 days'), create_default_indexes => false);

---------------------------------------------------------------- what was found
CREATE TABLE baseline_band (           -- each closed hour's own-baseline band
    patient_id int NOT NULL,
    metric_id smallint NOT NULL,
    context text NOT NULL CHECK (context IN ('asleep', 'rest', 'active', 'any')),
    t0 timestamptz NOT NULL,
    center real NOT NULL,
    spread real NOT NULL,
    days smallint NOT NULL,
    PRIMARY KEY (patient_id, metric_id, context, t0)
);
SELECT create_hypertable('baseline_band', by_range('t0', interval '30 days'), create_default_indexes => false);
CREATE TABLE daily_value (             -- each closed day (or night) of a metric in a context, and what it was compared with
    patient_id int NOT NULL,
    metric_id smallint NOT NULL,
    context text NOT NULL,
    day date NOT NULL,                 -- the patient's local day (a night counts to the day it ends on)
    value real NOT NULL,
    minutes int NOT NULL,
    center real NOT NULL,
    spread real NOT NULL,
    days smallint NOT NULL,
    z real NOT NULL,
    cusum real,
    used boolean NOT NULL,             -- whether the baseline learned from it
    PRIMARY KEY (patient_id, metric_id, context, day)
);
CREATE TABLE metric_state (            -- the data state of each metric now
    organisation_id int NOT NULL,
    patient_id int NOT NULL REFERENCES patient,
    metric_id smallint NOT NULL REFERENCES metric,
    state text NOT NULL CHECK (state IN ('learning', 'normal', 'unusual', 'unknown')),
    cause text CHECK (cause IN ('no_data', 'not_worn', 'poor_signal')),
    since timestamptz NOT NULL,
    last_value real,
    last_at timestamptz,
    PRIMARY KEY (patient_id, metric_id),
    CHECK ((state = 'unknown') = (cause IS NOT NULL))
);
CREATE TABLE alert (                   -- one episode of one rule
    id uuid PRIMARY KEY,               -- UUIDv5(patient, rule, rule version, episode start)
    organisation_id int NOT NULL,
    patient_id int NOT NULL REFERENCES patient,
    rule text NOT NULL,
    rule_version smallint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('clinical', 'technical')),
    priority text NOT NULL CHECK (priority IN ('high', 'medium', 'low')),
    state text NOT NULL CHECK (state IN ('active', 'resolved', 'withdrawn')),
    provisional boolean NOT NULL,
    late boolean NOT NULL,             -- a late finding: listed, never paged
    started_at timestamptz NOT NULL,   -- event time: where the condition began
    found_at timestamptz NOT NULL,     -- event time: where its persistence was fulfilled
    raised_at timestamptz NOT NULL,    -- the processor's clock when it was raised
    last_evidence_at timestamptz NOT NULL,
    unknown_since timestamptz,         -- active, but no good data since
    resolved_at timestamptz,
    sentence text NOT NULL,
    patient_sentence text NOT NULL,
    evidence jsonb NOT NULL,
    acknowledged_at timestamptz,       -- the API's columns: they change who is told, never what was found
    acknowledged_by int REFERENCES person,
    acknowledge_note text
);
CREATE INDEX ON alert (organisation_id, state, priority);
CREATE INDEX ON alert (patient_id, started_at DESC);
CREATE TABLE alert_event (             -- append-only; readers see xid < the snapshot's xmin, cursor (xid, id)
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    organisation_id int NOT NULL,
    patient_id int NOT NULL,
    alert_id uuid NOT NULL,
    change text NOT NULL CHECK (change IN ('raised', 'settled', 'worsened', 'withdrawn', 'unknown', 'known', 'resolved', 'acknowledged')),
    priority text NOT NULL,
    late boolean NOT NULL,
    at timestamptz NOT NULL,           -- event time of the change
    recorded_at timestamptz NOT NULL,
    person_id int,
    sentence text NOT NULL
);
CREATE INDEX ON alert_event (xid, id);
CREATE INDEX ON alert_event (alert_id, id);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON alert_event FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON access_audit FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

---------------------------------------------------------------- the processor's own
CREATE TABLE partition_position (      -- position and fence: moved in the transaction that holds the effects
    topic text NOT NULL,
    partition int NOT NULL,
    next_offset bigint NOT NULL,
    epoch bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
CREATE TABLE patient_state (           -- the hot row: last instants, open episodes
    patient_id int PRIMARY KEY REFERENCES patient,
    partition int NOT NULL,
    hot bytea NOT NULL,
    settled_to timestamptz NOT NULL,   -- the patient's watermark
    dirty_since timestamptz            -- late data from here on await a rebuild
) WITH (fillfactor = 50);
CREATE INDEX ON patient_state (partition);
CREATE TABLE patient_baseline (        -- the cold row, written at an hour's close
    patient_id int PRIMARY KEY REFERENCES patient,
    state bytea NOT NULL,
    layout int NOT NULL                -- checksum of the state's layout
) WITH (fillfactor = 50);
CREATE TABLE baseline_checkpoint (     -- a daily copy of both, to rebuild from
    patient_id int NOT NULL REFERENCES patient,
    day date NOT NULL,
    hot bytea NOT NULL,
    state bytea NOT NULL,
    layout int NOT NULL,
    PRIMARY KEY (patient_id, day)
);
CREATE TABLE silence_judgement (       -- wall-clock judgements are inputs too, so a replay can repeat them
    patient_id int NOT NULL REFERENCES patient,
    last_reading_at timestamptz NOT NULL,
    judged_at timestamptz NOT NULL,
    PRIMARY KEY (patient_id, last_reading_at)
);
CREATE TABLE control_event (
    topic text NOT NULL,
    partition int NOT NULL,
    record_offset bigint NOT NULL,
    patient_id int,
    kind text NOT NULL,
    effective_at timestamptz NOT NULL,
    payload jsonb NOT NULL,
    PRIMARY KEY (topic, partition, record_offset)
);
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition int NOT NULL,            -- of the patient: one relay per partition, in the order of id
    topic text NOT NULL,
    record_key bytea NOT NULL,
    record bytea NOT NULL,
    created_at timestamptz NOT NULL,
    sent_at timestamptz
);
CREATE INDEX ON outbox (partition, id) WHERE sent_at IS NULL;

---------------------------------------------------------------- views and functions the API reads
-- Owned by keepwell_reader, which can't log in and is itself under the policies below.
CREATE VIEW reading_block_view WITH (security_barrier) AS SELECT * FROM reading_block;
CREATE VIEW waveform_block_view WITH (security_barrier) AS SELECT * FROM waveform_block;
CREATE VIEW rollup_view WITH (security_barrier) AS SELECT * FROM rollup;
CREATE VIEW baseline_band_view WITH (security_barrier) AS SELECT * FROM baseline_band;
GRANT CREATE ON SCHEMA public TO keepwell_reader;
ALTER VIEW reading_block_view OWNER TO keepwell_reader;
ALTER VIEW waveform_block_view OWNER TO keepwell_reader;
ALTER VIEW rollup_view OWNER TO keepwell_reader;
ALTER VIEW baseline_band_view OWNER TO keepwell_reader;
REVOKE CREATE ON SCHEMA public FROM keepwell_reader;

-- The SQL door to readings: bounds on t0 first (a block spans an hour at most), then unnest.
CREATE FUNCTION readings(p_patient int, p_metric smallint, p_from timestamptz, p_to timestamptz)
RETURNS TABLE (device_id int, t timestamptz, value real, quality smallint) LANGUAGE sql STABLE AS $$
    SELECT r.device_id, r.t, r.value, r.quality
    FROM (
        SELECT b.device_id,
               b.t0 + coalesce(b.offsets_ms[i], (i - 1)::bigint * b.step_us / 1000) * interval '1 millisecond' AS t,
               b.value[i] AS value,
               coalesce(b.quality[i], 0::smallint) AS quality
        FROM reading_block_view b CROSS JOIN LATERAL generate_subscripts(b.value, 1) AS i
        WHERE b.patient_id = p_patient AND b.metric_id = p_metric
          AND b.t0 >= p_from - interval '1 hour' AND b.t0 < p_to
    ) AS r
    WHERE r.t >= p_from AND r.t < p_to
    ORDER BY r.t, r.device_id
$$;

-- Who holds this token? Runs as the owner, because the organisation isn't known before it answers.
CREATE FUNCTION person_of_token(p_hash bytea, p_at timestamptz)
RETURNS TABLE (person_id int, organisation_id int, person_key text, name text, role text, kind text, expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT p.id, p.organisation_id, p.key, p.name, p.role, t.kind, t.expires_at
    FROM person_token t JOIN person p ON p.id = t.person_id
    WHERE t.hash = p_hash AND t.revoked_at IS NULL AND t.expires_at > p_at
      AND (t.kind <> 'login_link' OR t.used_at IS NULL)
$$;
-- Exchange a login link for a session, once: NULL when it was used, revoked or has expired.
CREATE FUNCTION exchange_login_link(p_link bytea, p_session bytea, p_at timestamptz, p_expires timestamptz)
RETURNS int LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH link AS (
        UPDATE person_token SET used_at = p_at
        WHERE hash = p_link AND kind = 'login_link' AND used_at IS NULL AND revoked_at IS NULL AND expires_at > p_at
        RETURNING person_id
    )
    INSERT INTO person_token (hash, person_id, kind, created_at, expires_at)
    SELECT p_session, person_id, 'session', p_at, p_expires FROM link RETURNING person_id
$$;
CREATE FUNCTION end_session(p_hash bytea, p_at timestamptz) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE person_token SET revoked_at = p_at WHERE hash = p_hash AND kind = 'session' AND revoked_at IS NULL
$$;
REVOKE ALL ON FUNCTION person_of_token, exchange_login_link, end_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION person_of_token, exchange_login_link, end_session TO keepwell_api;

---------------------------------------------------------------- row-level security
DO $$
DECLARE name text;
BEGIN
    -- tables that carry the organisation themselves
    FOREACH name IN ARRAY ARRAY['patient', 'device', 'person', 'access_audit', 'frame_log', 'metric_state', 'alert', 'alert_event'] LOOP
        EXECUTE format('CREATE POLICY by_organisation ON %I TO keepwell_api, keepwell_reader
                        USING (organisation_id = current_organisation()) WITH CHECK (organisation_id = current_organisation())', name);
    END LOOP;
    -- tables that carry the patient only
    FOREACH name IN ARRAY ARRAY['device_assignment', 'reading_block', 'waveform_block', 'rollup', 'baseline_band', 'daily_value',
                                'reading_conflict', 'quarantined_reading'] LOOP
        EXECUTE format('CREATE POLICY by_organisation ON %I TO keepwell_api, keepwell_reader
                        USING (EXISTS (SELECT 1 FROM patient p WHERE p.id = patient_id AND p.organisation_id = current_organisation()))', name);
    END LOOP;
    -- the processor writes for every organisation; the gateway looks devices up before it knows whose they are
    FOREACH name IN ARRAY ARRAY['patient', 'device', 'person', 'access_audit', 'frame_log', 'metric_state', 'alert', 'alert_event',
                                'device_assignment', 'reading_block', 'waveform_block', 'rollup', 'baseline_band', 'daily_value',
                                'reading_conflict', 'quarantined_reading', 'dead_letter', 'patient_state', 'patient_baseline',
                                'baseline_checkpoint', 'silence_judgement', 'control_event', 'outbox', 'device_token', 'person_token'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY writer ON %I TO keepwell_writer USING (true) WITH CHECK (true)', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['patient', 'device', 'device_assignment', 'device_token'] LOOP
        EXECUTE format('CREATE POLICY gateway ON %I FOR SELECT TO keepwell_gateway USING (true)', name);
    END LOOP;
END $$;

GRANT SELECT ON metric TO keepwell_writer, keepwell_api, keepwell_gateway, keepwell_reader;
GRANT SELECT ON patient, device, device_assignment, device_token TO keepwell_gateway;
GRANT SELECT ON organisation, patient, device, device_assignment TO keepwell_writer;
GRANT SELECT, INSERT, UPDATE ON reading_block, waveform_block, rollup, baseline_band, daily_value, metric_state, alert,
    frame_log, patient_state, patient_baseline, baseline_checkpoint, partition_position, outbox TO keepwell_writer;
GRANT SELECT, INSERT ON reading_conflict, quarantined_reading, dead_letter, alert_event, silence_judgement, control_event TO keepwell_writer;
GRANT DELETE ON outbox TO keepwell_writer;
GRANT SELECT ON patient, reading_block, waveform_block, rollup, baseline_band TO keepwell_reader;
GRANT SELECT ON patient, device, device_assignment, person, metric_state, alert, alert_event, frame_log, daily_value,
    reading_conflict, quarantined_reading TO keepwell_api;
GRANT SELECT ON reading_block_view, waveform_block_view, rollup_view, baseline_band_view TO keepwell_api;
GRANT UPDATE (acknowledged_at, acknowledged_by, acknowledge_note) ON alert TO keepwell_api;
GRANT INSERT ON alert_event, access_audit TO keepwell_api;
GRANT SELECT ON reading_block_view TO keepwell_writer;

-- Late data rebuild what was found; people change what is watched; a correction replaces a reading; a person may
-- be erased; and who owned which partition when is written down.

---------------------------------------------------------------- findings that late data changed
ALTER TABLE alert ADD COLUMN revised_by uuid REFERENCES alert;  -- the same episode as all data show it; this one was told
ALTER TABLE alert_event DROP CONSTRAINT alert_event_change_check;
ALTER TABLE alert_event ADD CONSTRAINT alert_event_change_check CHECK (change IN
    ('raised', 'settled', 'worsened', 'withdrawn', 'unknown', 'known', 'resolved', 'acknowledged', 'revised'));
GRANT DELETE ON baseline_band, daily_value, baseline_checkpoint TO keepwell_writer;  -- made anew by a rebuild

---------------------------------------------------------------- what people change about a patient
CREATE TABLE patient_change (          -- applied in event time by the processor, told through the outbox
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL,
    patient_id int NOT NULL REFERENCES patient,
    kind text NOT NULL CHECK (kind IN ('monitoring', 'new_normal', 'assignment', 'erase')),
    subject text NOT NULL DEFAULT '',  -- the metric of a new normal, the device of an assignment
    version int NOT NULL,              -- 1, 2, … for each (patient, kind, subject): a stale writer is refused
    effective_at timestamptz NOT NULL,
    payload jsonb NOT NULL,
    reason text NOT NULL,
    person_id int REFERENCES person,   -- null: done at the command line
    recorded_at timestamptz NOT NULL,
    UNIQUE (patient_id, kind, subject, version)
);
CREATE INDEX ON control_event (patient_id, effective_at);
ALTER TABLE control_event ADD COLUMN change_id bigint;
ALTER TABLE outbox ADD COLUMN organisation_id int;  -- of a change the API makes; null: the processor's own

---------------------------------------------------------------- corrections
CREATE TABLE reading_superseded (      -- values that a device's later revision replaced: kept beside
    patient_id int NOT NULL,
    metric_id smallint NOT NULL,
    device_id int NOT NULL,
    t timestamptz NOT NULL,
    value real NOT NULL,
    revision int NOT NULL,             -- of the frame it came with
    frame_id text NOT NULL,            -- the frame that replaced it
    PRIMARY KEY (patient_id, metric_id, device_id, t, revision)
);
ALTER TABLE frame_log ADD COLUMN corrected int NOT NULL DEFAULT 0;
ALTER TABLE frame_log ADD COLUMN erased int NOT NULL DEFAULT 0;
GRANT DELETE ON reading_block, waveform_block TO keepwell_writer;  -- a block is rewritten by a correction

---------------------------------------------------------------- dead letters that were looked at
ALTER TABLE dead_letter ADD COLUMN state text NOT NULL DEFAULT 'open'
    CHECK (state IN ('open', 'fixed', 'redriven', 'given_up'));
ALTER TABLE dead_letter ADD COLUMN fixed_record bytea;  -- what `keepwell dead fix` made of it
ALTER TABLE dead_letter ADD COLUMN note text;
ALTER TABLE dead_letter ADD COLUMN handled_at timestamptz;

---------------------------------------------------------------- erasure
ALTER TABLE patient ADD COLUMN erased_at timestamptz;
CREATE TABLE erasure (                 -- the proof: what was deleted, never what it said
    patient_id int PRIMARY KEY REFERENCES patient,
    organisation_id int NOT NULL,
    reason text NOT NULL,
    asked_at timestamptz NOT NULL,
    done_at timestamptz,
    counts jsonb NOT NULL DEFAULT '{}' -- rows deleted by table
);
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'alert_event' AND current_setting('keepwell.erasing', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
GRANT UPDATE (key, name, erased_at) ON patient TO keepwell_writer;
GRANT DELETE ON rollup, metric_state, alert, alert_event, frame_log, patient_state, patient_baseline, reading_conflict,
    quarantined_reading, dead_letter, silence_judgement, control_event TO keepwell_writer;
GRANT UPDATE ON dead_letter TO keepwell_writer;

---------------------------------------------------------------- who owned a partition when
CREATE TABLE partition_owner_log (     -- append-only: one row each time an epoch is raised
    topic text NOT NULL,
    partition int NOT NULL,
    epoch bigint NOT NULL,
    owner text NOT NULL,
    taken_at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, epoch)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON partition_owner_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

---------------------------------------------------------------- row-level security
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['patient_change', 'erasure'] LOOP
        EXECUTE format('CREATE POLICY by_organisation ON %I TO keepwell_api, keepwell_reader
                        USING (organisation_id = current_organisation()) WITH CHECK (organisation_id = current_organisation())', name);
    END LOOP;
    EXECUTE 'CREATE POLICY by_organisation ON reading_superseded TO keepwell_api, keepwell_reader
             USING (EXISTS (SELECT 1 FROM patient p WHERE p.id = patient_id AND p.organisation_id = current_organisation()))';
    FOREACH name IN ARRAY ARRAY['patient_change', 'erasure', 'reading_superseded'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY writer ON %I TO keepwell_writer USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
-- The API may leave a change of its own organisation for the relay, and read nothing back.
CREATE POLICY of_a_change ON outbox FOR INSERT TO keepwell_api
    WITH CHECK (topic = 'control.v1' AND organisation_id = current_organisation());
GRANT INSERT ON outbox TO keepwell_api;
GRANT SELECT, INSERT ON patient_change TO keepwell_api, keepwell_writer;
GRANT SELECT ON erasure, reading_superseded TO keepwell_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON reading_superseded TO keepwell_writer;
GRANT SELECT, INSERT, UPDATE ON erasure TO keepwell_writer;
GRANT DELETE ON patient_change TO keepwell_writer;
GRANT SELECT, INSERT ON partition_owner_log TO keepwell_writer;

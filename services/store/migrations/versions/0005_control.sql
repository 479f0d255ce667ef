-- What people change about a patient is applied: once however often it is relayed, and what it keeps quiet is counted.

ALTER TABLE control_event ADD COLUMN subject text NOT NULL DEFAULT '';
ALTER TABLE control_event ADD COLUMN version int NOT NULL DEFAULT 0;
ALTER TABLE control_event ADD COLUMN person_id int;
CREATE UNIQUE INDEX ON control_event (change_id);  -- the relay may send a change again

CREATE TABLE suppressed_finding (      -- found while the monitoring state kept it quiet: counted, never an alert
    organisation_id int NOT NULL,
    patient_id int NOT NULL REFERENCES patient,
    rule text NOT NULL,
    started_at timestamptz NOT NULL,   -- event time, as in alert
    found_at timestamptz NOT NULL,
    priority text NOT NULL CHECK (priority IN ('high', 'medium', 'low')),
    monitoring text NOT NULL,          -- the state that kept it quiet
    sentence text NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (patient_id, rule, started_at)
);
ALTER TABLE suppressed_finding ENABLE ROW LEVEL SECURITY;
ALTER TABLE suppressed_finding FORCE ROW LEVEL SECURITY;
CREATE POLICY writer ON suppressed_finding TO keepwell_writer USING (true) WITH CHECK (true);
CREATE POLICY by_organisation ON suppressed_finding TO keepwell_api, keepwell_reader
    USING (organisation_id = current_organisation()) WITH CHECK (organisation_id = current_organisation());
GRANT SELECT, INSERT, DELETE ON suppressed_finding TO keepwell_writer;
GRANT SELECT ON suppressed_finding TO keepwell_api;

-- An erasure ends what would bring the patient back, and says how far the logs were cut.
ALTER TABLE erasure ADD COLUMN logs jsonb NOT NULL DEFAULT '{}';  -- topic/partition → first offset that remains
GRANT UPDATE (valid_to) ON device_assignment TO keepwell_writer;
GRANT SELECT (device_id, revoked_at), UPDATE (revoked_at) ON device_token TO keepwell_writer;

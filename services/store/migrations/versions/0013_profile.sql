-- What changes the rules for a patient: profile and limits are changes as others are; programmes say how people are
-- watched together, and an enrolment says how far a patient has come in one.

ALTER TABLE patient_change DROP CONSTRAINT patient_change_kind_check;
ALTER TABLE patient_change ADD CONSTRAINT patient_change_kind_check
    CHECK (kind IN ('monitoring', 'new_normal', 'assignment', 'erase', 'profile', 'limits'));

CREATE TABLE organisation_limits (     -- each version; what holds for a patient is in its own changes
    organisation_id int NOT NULL REFERENCES organisation,
    version int NOT NULL,              -- 1, 2, …: a stale writer is refused
    rules jsonb NOT NULL,              -- services/limits.py
    effective_at timestamptz NOT NULL,
    reason text NOT NULL,
    person_id int REFERENCES person,   -- null: done at the command line
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, version)
);

CREATE TABLE programme (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL REFERENCES organisation,
    key text NOT NULL,
    state text NOT NULL CHECK (state IN ('draft', 'active', 'retired')),
    version int NOT NULL,
    document jsonb NOT NULL,           -- services/programme.py
    UNIQUE (organisation_id, key)
);
CREATE TABLE programme_version (       -- who made it what it was
    programme_id int NOT NULL REFERENCES programme,
    organisation_id int NOT NULL REFERENCES organisation,
    version int NOT NULL,
    state text NOT NULL,
    document jsonb NOT NULL,
    reason text NOT NULL,
    person_id int REFERENCES person,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (programme_id, version)
);

CREATE TABLE enrolment (               -- of a patient in a programme, as it stands
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL REFERENCES organisation,
    patient_id int NOT NULL REFERENCES patient,
    programme_id int NOT NULL REFERENCES programme,
    state text NOT NULL,               -- services/enrolment.py
    version int NOT NULL,
    since timestamptz NOT NULL,
    UNIQUE (patient_id, programme_id)
);
CREATE INDEX ON enrolment (programme_id, state);
CREATE TABLE enrolment_event (         -- each step, with what it needed
    organisation_id int NOT NULL,
    patient_id int NOT NULL REFERENCES patient,
    programme_id int NOT NULL REFERENCES programme,
    version int NOT NULL,
    from_state text,                   -- null: the first one
    to_state text NOT NULL,
    at timestamptz NOT NULL,
    facts jsonb NOT NULL,
    reason text NOT NULL,
    person_id int REFERENCES person,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (patient_id, programme_id, version)
);

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['organisation_limits', 'programme', 'programme_version'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY by_organisation ON %I TO keepwell_api, keepwell_reader
                        USING (organisation_id = current_organisation()) WITH CHECK (organisation_id = current_organisation())', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['enrolment', 'enrolment_event'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY by_sight ON %I TO keepwell_api, keepwell_reader
                        USING (organisation_id = current_organisation() AND may_see_patient(patient_id))
                        WITH CHECK (organisation_id = current_organisation() AND may_see_patient(patient_id))', name);
        -- the processor erases
        EXECUTE format('CREATE POLICY writer ON %I TO keepwell_writer USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, DELETE ON %I TO keepwell_writer', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT ON organisation_limits, programme_version, enrolment_event TO keepwell_api;
GRANT SELECT, INSERT, UPDATE ON programme, enrolment TO keepwell_api;

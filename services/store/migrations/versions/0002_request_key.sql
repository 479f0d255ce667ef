-- The Idempotency-Keys of writes that were done, so that a repeated request does nothing again.
CREATE TABLE request_key (
    organisation_id int NOT NULL,
    person_id int NOT NULL REFERENCES person,
    key text NOT NULL,
    request bytea NOT NULL,            -- SHA-256 of what was asked: another request may not use the key
    created_at timestamptz NOT NULL,   -- kept for a day
    PRIMARY KEY (person_id, key)
);
ALTER TABLE request_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE request_key FORCE ROW LEVEL SECURITY;
CREATE POLICY by_organisation ON request_key TO keepwell_api
    USING (organisation_id = current_organisation()) WITH CHECK (organisation_id = current_organisation());
GRANT SELECT, INSERT, DELETE ON request_key TO keepwell_api;

-- Waveforms keep their quality; a stored value remembers its revision where it has one; a bucket names its sources.

ALTER TABLE waveform_block ADD COLUMN quality smallint[];  -- null: all good
ALTER TABLE rollup ADD COLUMN devices int[];  -- who has readings in the bucket, the preferred source first; null: not noted

CREATE TABLE reading_revision (        -- of stored values, only where it is above 0
    patient_id int NOT NULL,
    metric_id smallint NOT NULL,
    device_id int NOT NULL,
    t timestamptz NOT NULL,
    revision int NOT NULL CHECK (revision > 0),
    PRIMARY KEY (patient_id, metric_id, device_id, t)
);
ALTER TABLE reading_revision ENABLE ROW LEVEL SECURITY;
ALTER TABLE reading_revision FORCE ROW LEVEL SECURITY;
CREATE POLICY writer ON reading_revision TO keepwell_writer USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON reading_revision TO keepwell_writer;

CREATE OR REPLACE VIEW waveform_block_view WITH (security_barrier) AS SELECT * FROM waveform_block;
CREATE OR REPLACE VIEW rollup_view WITH (security_barrier) AS SELECT * FROM rollup;

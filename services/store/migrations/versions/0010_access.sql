-- Who may see whom: roles, care teams, proxies and break-glass, and row-level security that goes by them.

---------------------------------------------------------------- roles and teams
ALTER TABLE person DROP CONSTRAINT person_role_check;
ALTER TABLE person ADD CONSTRAINT person_role_check CHECK (role IN
    ('clinician', 'nurse', 'coordinator', 'pharmacist', 'genetic_counsellor', 'data_specialist', 'researcher',
     'administrator', 'patient', 'proxy'));
-- A team, a proxy or an account never spans two organisations: the keys below carry the organisation.
ALTER TABLE person ADD UNIQUE (organisation_id, id);
ALTER TABLE patient ADD UNIQUE (organisation_id, id);
ALTER TABLE person ADD COLUMN patient_id int;  -- who a person of role patient is
ALTER TABLE person ADD CHECK (patient_id IS NULL OR role = 'patient');
ALTER TABLE person ADD FOREIGN KEY (organisation_id, patient_id) REFERENCES patient (organisation_id, id);
CREATE UNIQUE INDEX ON person (patient_id);

CREATE TABLE care_team (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL REFERENCES organisation,
    key text NOT NULL,
    name text NOT NULL,
    is_default boolean NOT NULL DEFAULT false,  -- where people and patients are enrolled unless told otherwise
    UNIQUE (organisation_id, key),
    UNIQUE (organisation_id, id)
);
CREATE UNIQUE INDEX ON care_team (organisation_id) WHERE is_default;
CREATE TABLE care_team_member (
    organisation_id int NOT NULL,
    team_id int NOT NULL,
    person_id int NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz NOT NULL DEFAULT 'infinity',
    FOREIGN KEY (organisation_id, team_id) REFERENCES care_team (organisation_id, id),
    FOREIGN KEY (organisation_id, person_id) REFERENCES person (organisation_id, id),
    EXCLUDE USING gist (team_id WITH =, person_id WITH =, tstzrange(valid_from, valid_to) WITH &&)
);
CREATE INDEX ON care_team_member (person_id);
CREATE TABLE care_team_patient (
    organisation_id int NOT NULL,
    team_id int NOT NULL,
    patient_id int NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz NOT NULL DEFAULT 'infinity',
    FOREIGN KEY (organisation_id, team_id) REFERENCES care_team (organisation_id, id),
    FOREIGN KEY (organisation_id, patient_id) REFERENCES patient (organisation_id, id),
    EXCLUDE USING gist (team_id WITH =, patient_id WITH =, tstzrange(valid_from, valid_to) WITH &&)
);
CREATE INDEX ON care_team_patient (patient_id);
CREATE INDEX ON care_team_patient (team_id);
CREATE TABLE proxy_grant (             -- by a patient, to somebody who looks on for them
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL,
    person_id int NOT NULL,
    patient_id int NOT NULL,
    what text[] NOT NULL CHECK (what <@ ARRAY['readings', 'alerts']),  -- empty: only that they are enrolled
    valid_from timestamptz NOT NULL,
    valid_to timestamptz NOT NULL,     -- until; ended early by setting it
    FOREIGN KEY (organisation_id, person_id) REFERENCES person (organisation_id, id),
    FOREIGN KEY (organisation_id, patient_id) REFERENCES patient (organisation_id, id)
);
CREATE INDEX ON proxy_grant (person_id);
CREATE INDEX ON proxy_grant (patient_id);
CREATE TABLE break_glass (             -- access outside one's team, for a reason and a time, to be reviewed
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL,
    person_id int NOT NULL,
    patient_id int NOT NULL,
    reason text NOT NULL,              -- blank once the patient is erased
    opened_at timestamptz NOT NULL,
    until timestamptz NOT NULL,
    reviewed_at timestamptz,
    reviewed_by int,
    verdict text CHECK (verdict IN ('justified', 'not_justified')),
    note text,
    FOREIGN KEY (organisation_id, person_id) REFERENCES person (organisation_id, id),
    FOREIGN KEY (organisation_id, patient_id) REFERENCES patient (organisation_id, id),
    FOREIGN KEY (organisation_id, reviewed_by) REFERENCES person (organisation_id, id),
    CHECK (until <= opened_at + interval '24 hours'),
    CHECK (reviewed_by <> person_id),  -- nobody reviews their own
    CHECK ((reviewed_at IS NULL) = (verdict IS NULL) AND (reviewed_at IS NULL) = (reviewed_by IS NULL))
);
CREATE INDEX ON break_glass (person_id, until);
CREATE INDEX ON break_glass (patient_id);
CREATE INDEX ON device_assignment (patient_id);

INSERT INTO care_team (organisation_id, key, name, is_default) SELECT id, 'default', 'Everybody', true FROM organisation;
INSERT INTO care_team_member (organisation_id, team_id, person_id, valid_from)
    SELECT p.organisation_id, t.id, p.id, '-infinity' FROM person p JOIN care_team t USING (organisation_id);
INSERT INTO care_team_patient (organisation_id, team_id, patient_id, valid_from)
    SELECT p.organisation_id, t.id, p.id, '-infinity' FROM patient p JOIN care_team t USING (organisation_id)
    WHERE p.erased_at IS NULL;

---------------------------------------------------------------- who may see whom
-- Set inside the API's transaction beside keepwell.organisation; none set: NULL, which matches no row.
CREATE FUNCTION current_person() RETURNS int LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('keepwell.person', true), '')::int $$;
-- The instant rights are judged at: the one the API judges credentials at, else the server's.
CREATE FUNCTION current_instant() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT coalesce(nullif(current_setting('keepwell.at', true), '')::timestamptz, transaction_timestamp()) $$;
-- A researcher or an administrator sees nobody by being in a team.
CREATE FUNCTION is_care_role(role text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT role IN ('clinician', 'nurse', 'coordinator', 'pharmacist', 'genetic_counsellor', 'data_specialist') $$;

-- The rights there are in the organisation at the instant: by team, and to single patients with what they open beside the
-- patient's name. Owned by keepwell_reader; read through the functions below alone.
CREATE VIEW person_team AS
    SELECT m.person_id, m.team_id FROM care_team_member m JOIN person p ON p.id = m.person_id AND public.is_care_role(p.role)
    WHERE m.valid_from <= public.current_instant() AND m.valid_to > public.current_instant();
CREATE VIEW person_grant AS
    SELECT id AS person_id, patient_id, ARRAY['readings', 'alerts'] AS what FROM person
    WHERE role = 'patient' AND patient_id IS NOT NULL
    UNION ALL
    SELECT g.person_id, g.patient_id, g.what FROM proxy_grant g JOIN person p ON p.id = g.person_id AND p.role = 'proxy'
    WHERE g.valid_from <= public.current_instant() AND g.valid_to > public.current_instant()
    UNION ALL
    SELECT b.person_id, b.patient_id, ARRAY['readings', 'alerts']
    FROM break_glass b JOIN person p ON p.id = b.person_id AND public.is_care_role(p.role)
    WHERE b.opened_at <= public.current_instant() AND b.until > public.current_instant();
-- Those of the person who asks. They run once a query, as (SELECT …), and are opaque to the planner: a policy stays one
-- look-up in care_team_patient, or one hash of it where many rows are judged.
CREATE FUNCTION my_teams() RETURNS int[] LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS
$$ SELECT coalesce(array_agg(team_id), '{}') FROM person_team WHERE person_id = current_person() $$;
CREATE FUNCTION my_grants(p_what text) RETURNS int[] LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS
$$ SELECT coalesce(array_agg(patient_id), '{}') FROM person_grant
   WHERE person_id = current_person() AND (p_what IS NULL OR p_what = ANY (what)) $$;
CREATE VIEW team_patient AS
    SELECT patient_id FROM care_team_patient
    WHERE team_id = ANY ((SELECT public.my_teams())::int[])
      AND valid_from <= (SELECT public.current_instant()) AND valid_to > (SELECT public.current_instant());
GRANT CREATE ON SCHEMA public TO keepwell_reader;
ALTER VIEW person_team OWNER TO keepwell_reader;
ALTER VIEW person_grant OWNER TO keepwell_reader;
ALTER VIEW team_patient OWNER TO keepwell_reader;
REVOKE CREATE ON SCHEMA public FROM keepwell_reader;
GRANT SELECT ON person, care_team_member, care_team_patient, proxy_grant, break_glass TO keepwell_reader;
GRANT SELECT ON team_patient TO keepwell_api;

-- For policies of small tables and for programs: whether the person who asks may see this patient at all. The policies
-- below spell it out, because PostgreSQL can't look into a function with a query in it and would call it row by row.
CREATE FUNCTION may_see_patient(p_patient int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM public.team_patient v WHERE v.patient_id = p_patient)
        OR p_patient = ANY (public.my_grants(NULL))
$$;
CREATE FUNCTION is_administrator() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT EXISTS (SELECT 1 FROM public.person p WHERE p.id = public.current_person() AND p.role = 'administrator') $$;

DO $$
DECLARE name text; organisation text; patient text; sees text; what text;
BEGIN
    FOREACH name IN ARRAY ARRAY['patient', 'device_assignment', 'patient_change', 'alert', 'alert_event', 'suppressed_finding',
                                'metric_state', 'frame_log', 'reading_block', 'waveform_block', 'rollup', 'baseline_band',
                                'daily_value', 'reading_conflict', 'quarantined_reading', 'reading_superseded'] LOOP
        organisation := CASE WHEN name IN ('patient', 'patient_change', 'alert', 'alert_event', 'suppressed_finding',
                                           'metric_state', 'frame_log')
                             THEN 'organisation_id = public.current_organisation() AND ' ELSE '' END;
        what := CASE WHEN name IN ('patient', 'device_assignment', 'patient_change') THEN NULL
                     WHEN name IN ('alert', 'alert_event', 'suppressed_finding') THEN 'alerts' ELSE 'readings' END;
        patient := CASE name WHEN 'patient' THEN 'patient.id' ELSE format('%I.patient_id', name) END;
        sees := format('%s(EXISTS (SELECT 1 FROM public.team_patient v WHERE v.patient_id = %s) '
                       'OR %s = ANY ((SELECT public.my_grants(%L))::int[]))', organisation, patient, patient, what);
        EXECUTE format('DROP POLICY by_organisation ON %I', name);
        EXECUTE format('CREATE POLICY by_sight ON %I TO keepwell_api, keepwell_reader USING (%s) WITH CHECK (%s)', name, sees, sees);
    END LOOP;
    -- the teams themselves: within the organisation
    FOREACH name IN ARRAY ARRAY['care_team', 'care_team_member', 'care_team_patient', 'proxy_grant', 'break_glass'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY by_organisation ON %I TO keepwell_reader USING (organisation_id = public.current_organisation())', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['care_team_patient', 'proxy_grant', 'break_glass'] LOOP
        EXECUTE format('CREATE POLICY writer ON %I TO keepwell_writer USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
-- A device is seen with the patient who has or had it.
DROP POLICY by_organisation ON device;
CREATE POLICY by_sight ON device FOR SELECT TO keepwell_api USING (organisation_id = current_organisation()
    AND EXISTS (SELECT 1 FROM device_assignment a WHERE a.device_id = device.id));
-- An administrator manages patients: that they are enrolled, and that they were erased, and nothing that was measured.
CREATE POLICY administrator ON patient FOR SELECT TO keepwell_api
    USING (organisation_id = current_organisation() AND (SELECT is_administrator()));
DROP POLICY by_organisation ON erasure;
CREATE POLICY administrator ON erasure FOR SELECT TO keepwell_api
    USING (organisation_id = current_organisation() AND (SELECT is_administrator()));

---------------------------------------------------------------- break-glass
CREATE POLICY by_sight ON break_glass FOR SELECT TO keepwell_api USING (organisation_id = current_organisation()
    AND (person_id = current_person() OR may_see_patient(patient_id) OR (SELECT is_administrator())));
-- Reviewed once, by somebody else who is in the patient's team or an administrator.
CREATE POLICY review ON break_glass FOR UPDATE TO keepwell_api
    USING (organisation_id = current_organisation() AND person_id <> current_person() AND reviewed_at IS NULL
           AND ((SELECT is_administrator()) OR EXISTS (
               SELECT 1 FROM team_patient v WHERE v.patient_id = break_glass.patient_id)))
    WITH CHECK (reviewed_by = current_person());
GRANT SELECT, UPDATE (until, reviewed_at, reviewed_by, verdict, note) ON break_glass TO keepwell_api;
-- Opened through this alone, because the patient is not visible before: NULL where there is no such patient.
CREATE FUNCTION open_break_glass(p_patient text, p_reason text, p_until timestamptz) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO break_glass (organisation_id, person_id, patient_id, reason, opened_at, until)
    SELECT who.organisation_id, who.id, p.id, p_reason, current_instant(), p_until
    FROM person who JOIN patient p ON p.organisation_id = who.organisation_id AND p.key = p_patient AND p.erased_at IS NULL
    WHERE who.id = current_person() AND who.organisation_id = current_organisation() AND is_care_role(who.role)
    RETURNING id
$$;

---------------------------------------------------------------- the stream, and refusals
-- The next events of the organisation below a horizon, each with those of the persons asked about who may see it now, in one query for
-- all of them. Of an event that none of them sees only its place is told.
CREATE FUNCTION alert_events_for(p_persons int[], p_xid xid8, p_id bigint, p_below xid8, p_limit int)
RETURNS TABLE (xid text, id bigint, patient_id int, alert_id uuid, change text, priority text, late boolean, at timestamptz,
               sentence text, patient_sentence text, rule text, kind text, provisional boolean, patient_key text, seen_by int[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT e.xid::text, e.id, p.id, a.id, e.change, e.priority, e.late, e.at,
           CASE WHEN a.id IS NOT NULL THEN e.sentence END, a.patient_sentence, a.rule, a.kind, a.provisional, p.key, w.seen_by
    FROM (SELECT * FROM alert_event e
          WHERE e.organisation_id = current_organisation() AND (e.xid, e.id) > (p_xid, p_id) AND e.xid < p_below
          ORDER BY e.xid, e.id LIMIT p_limit) AS e
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(DISTINCT s.person_id), '{}') AS seen_by
        FROM (SELECT m.person_id FROM care_team_patient t JOIN person_team m USING (team_id)
              WHERE t.patient_id = e.patient_id AND t.valid_from <= current_instant() AND t.valid_to > current_instant()
              UNION ALL
              SELECT g.person_id FROM person_grant g WHERE g.patient_id = e.patient_id AND 'alerts' = ANY (g.what)) AS s
        WHERE s.person_id = ANY (p_persons)) AS w
    LEFT JOIN alert a ON a.id = e.alert_id AND w.seen_by <> '{}'
    LEFT JOIN patient p ON p.id = a.patient_id
    ORDER BY e.xid, e.id
$$;
-- Whose token this is or was: to write down who was refused.
CREATE FUNCTION holder_of_token(p_hash bytea)
RETURNS TABLE (person_id int, organisation_id int, person_key text, name text, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT p.id, p.organisation_id, p.key, p.name, p.role FROM person_token t JOIN person p ON p.id = t.person_id
    WHERE t.hash = p_hash
$$;
REVOKE ALL ON FUNCTION open_break_glass, alert_events_for, holder_of_token, my_teams, my_grants FROM PUBLIC;
GRANT EXECUTE ON FUNCTION open_break_glass, alert_events_for, holder_of_token TO keepwell_api;
GRANT EXECUTE ON FUNCTION my_teams, my_grants TO keepwell_api, keepwell_reader;

---------------------------------------------------------------- erasure, and the processes to come
GRANT SELECT (patient_id), DELETE ON care_team_patient, proxy_grant TO keepwell_writer;
GRANT SELECT (patient_id), UPDATE (reason, note) ON break_glass TO keepwell_writer;
GRANT SELECT (id, patient_id), UPDATE (key, name) ON person TO keepwell_writer;
GRANT SELECT (person_id, revoked_at), UPDATE (revoked_at) ON person_token TO keepwell_writer;
-- They log in and learn which schema this is; each gets the rest by name in the migration that brings its tables.
GRANT USAGE ON SCHEMA public TO keepwell_notifier, keepwell_research;
GRANT SELECT ON alembic_version TO keepwell_notifier, keepwell_research;

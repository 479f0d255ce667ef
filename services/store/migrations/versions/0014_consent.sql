-- What a patient agreed to, purpose by purpose and class of data by class, and row-level security that goes by it.

ALTER TABLE metric ADD COLUMN data_class text;  -- the catalogue's; without one a metric is withheld with any class
CREATE FUNCTION consent_classes() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT ARRAY['activity', 'sleep', 'vitals', 'waveforms'] $$;
-- What each role sees patients for; an administrator sees who is enrolled and nothing measured, a patient their own.
CREATE FUNCTION purpose_of(role text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN role IN ('clinician', 'nurse', 'pharmacist') THEN 'care'
                WHEN role IN ('coordinator', 'data_specialist') THEN 'programme'
                WHEN role = 'researcher' THEN 'research'
                WHEN role = 'genetic_counsellor' THEN 'genomics'
                WHEN role = 'proxy' THEN 'family' END
$$;

CREATE TABLE consent_rules (           -- each version; the newest holds
    organisation_id int NOT NULL REFERENCES organisation,
    version int NOT NULL,
    basis jsonb NOT NULL,              -- purpose → consent: nothing without it; other: the right to it lies elsewhere
    consent_age int NOT NULL CHECK (consent_age BETWEEN 13 AND 21),
    reason text NOT NULL,
    person_id int REFERENCES person,   -- null: done at the command line
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, version)
);
CREATE TABLE consent_document (        -- what people are asked; never changed once it is published
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL REFERENCES organisation,
    key text NOT NULL,
    version int NOT NULL CHECK (version > 0),
    language text NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('care', 'programme', 'research', 'genomics', 'family')),
    title text NOT NULL,
    text text NOT NULL,
    digest text NOT NULL,              -- SHA-256 of title, a newline and text, in hex
    requires_renewal boolean NOT NULL, -- what was given to an earlier version ends with it
    published_at timestamptz NOT NULL,
    published_by int REFERENCES person,
    UNIQUE (organisation_id, key, version, language),
    UNIQUE (organisation_id, id)
);
CREATE TABLE consent (                 -- each decision; the last one said holds, from when it takes effect
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id int NOT NULL,
    patient_id int NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('care', 'programme', 'research', 'genomics', 'family')),
    data_classes text[] CHECK (data_classes <@ consent_classes() AND cardinality(data_classes) > 0),  -- null: all
    decision text NOT NULL CHECK (decision IN ('given', 'refused', 'withdrawn')),
    document_id int,
    effective_at timestamptz NOT NULL,
    expires_at timestamptz CHECK (expires_at IS NULL OR expires_at > effective_at AND decision = 'given'),
    relation text NOT NULL CHECK (relation IN ('self', 'guardian', 'representative')),
    decided_by text NOT NULL,          -- the name of who decided
    form text NOT NULL,                -- how it was said and where that is kept
    reason text NOT NULL,
    recorded_by int REFERENCES person, -- null: at the command line
    recorded_at timestamptz NOT NULL,
    FOREIGN KEY (organisation_id, patient_id) REFERENCES patient (organisation_id, id),
    FOREIGN KEY (organisation_id, document_id) REFERENCES consent_document (organisation_id, id)
);
CREATE INDEX ON consent (patient_id, purpose, id);
CREATE INDEX ON consent (organisation_id, purpose, patient_id) WHERE decision <> 'given';
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME IN ('alert_event', 'consent') AND current_setting('keepwell.erasing', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON consent FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON consent_document
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON consent_rules
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

---------------------------------------------------------------- what stands
CREATE FUNCTION consent_basis(p_organisation int, p_purpose text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT r.basis ->> p_purpose FROM public.consent_rules r WHERE r.organisation_id = p_organisation
                     ORDER BY r.version DESC LIMIT 1),
                    CASE WHEN p_purpose IN ('care', 'programme', 'family') THEN 'other' ELSE 'consent' END)
$$;
CREATE FUNCTION consent_age_of(p_organisation int) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT r.consent_age FROM public.consent_rules r WHERE r.organisation_id = p_organisation
                     ORDER BY r.version DESC LIMIT 1), 16)
$$;
-- Until when the person of a profile is too young to decide; of an unknown age: -infinity. services/consent.py says the same.
CREATE FUNCTION minor_until(profile jsonb, age int) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN profile ? 'birth_date' THEN
                (make_date(extract(year FROM (profile ->> 'birth_date')::date)::int + age,
                           extract(month FROM (profile ->> 'birth_date')::date)::int, 1)
                 + (extract(day FROM (profile ->> 'birth_date')::date)::int - 1))::timestamp AT TIME ZONE 'UTC'
                WHEN profile ->> 'age_band' = 'under_16' AND age >= 16 THEN 'infinity' ELSE '-infinity' END
$$;
-- The decision that stands for each class on which there is one. What was given ends when it says so, when a later version
-- of its document asks anew, and, given by a guardian, when the person is old enough.
CREATE FUNCTION consent_standing(p_organisation int, p_purpose text, p_patients int[])
RETURNS TABLE (patient_id int, data_class text, decision_id bigint, decision text, since timestamptz, ends_at timestamptz,
               ended_by text, holds boolean)
LANGUAGE sql STABLE AS $$
    WITH latest AS (
        SELECT DISTINCT ON (c.patient_id, k) c.patient_id, k AS data_class, c.id, c.decision, c.effective_at, c.document_id,
               c.relation, coalesce(c.expires_at, 'infinity') AS expiry
        FROM public.consent c CROSS JOIN LATERAL unnest(coalesce(c.data_classes, public.consent_classes())) AS k
        WHERE c.organisation_id = p_organisation AND c.purpose = p_purpose AND c.patient_id = ANY (p_patients)
          AND c.effective_at <= public.current_instant()
        ORDER BY c.patient_id, k, c.id DESC
    ), ending AS (
        SELECT l.*,
               coalesce((SELECT min(n.published_at) FROM public.consent_document d
                         JOIN public.consent_document n USING (organisation_id, key)
                         WHERE d.id = l.document_id AND n.version > d.version AND n.requires_renewal), 'infinity') AS renewal,
               CASE WHEN l.relation <> 'guardian' THEN 'infinity' ELSE
                   coalesce((SELECT public.minor_until(c.payload, public.consent_age_of(p_organisation))
                             FROM public.patient_change c
                             WHERE c.patient_id = l.patient_id AND c.kind = 'profile' AND c.subject = ''
                             ORDER BY c.version DESC LIMIT 1), '-infinity') END AS of_age
        FROM latest l
    )
    SELECT e.patient_id, e.data_class, e.id, e.decision, e.effective_at, least(e.expiry, e.renewal, e.of_age),
           CASE least(e.expiry, e.renewal, e.of_age)
               WHEN 'infinity' THEN NULL WHEN e.of_age THEN 'of_age' WHEN e.renewal THEN 'renewal' ELSE 'expiry' END,
           e.decision = 'given' AND least(e.expiry, e.renewal, e.of_age) > public.current_instant()
    FROM ending e
$$;
-- Which classes of which of these patients must not be used for a purpose now, by which decision (null: there is none) and
-- since when. Treatment goes on where it rests on something else than consent.
CREATE FUNCTION withheld(p_organisation int, p_purpose text, p_patients int[])
RETURNS TABLE (patient_id int, classes text[], decision_id bigint, since timestamptz)
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF consent_basis(p_organisation, p_purpose) = 'consent' THEN
        -- Most gave it whole, without an end, and said nothing since: they are not looked at any closer.
        p_patients := ARRAY(
            SELECT p.id FROM unnest(p_patients) AS p (id)
            EXCEPT ALL
            SELECT c.patient_id FROM consent c LEFT JOIN consent_document d ON d.id = c.document_id
            WHERE c.organisation_id = p_organisation AND c.purpose = p_purpose AND c.patient_id = ANY (p_patients)
            GROUP BY c.patient_id
            HAVING count(*) = 1 AND bool_and(
                c.decision = 'given' AND c.data_classes IS NULL AND c.expires_at IS NULL AND c.relation <> 'guardian'
                AND c.effective_at <= current_instant()
                AND (d.id IS NULL OR (d.key, d.version) NOT IN (
                    SELECT o.key, o.version FROM consent_document o JOIN consent_document n USING (organisation_id, key)
                    WHERE o.organisation_id = p_organisation AND n.version > o.version AND n.requires_renewal))));
        RETURN QUERY
            SELECT p.id, array_agg(k ORDER BY k), max(s.decision_id),
                   max(CASE WHEN s.decision = 'given' THEN greatest(s.ends_at, s.since) ELSE s.since END)
            FROM unnest(p_patients) AS p (id) CROSS JOIN unnest(consent_classes()) AS k
            LEFT JOIN consent_standing(p_organisation, p_purpose, p_patients) s ON s.patient_id = p.id AND s.data_class = k
            WHERE s.holds IS NOT TRUE GROUP BY p.id;
    ELSIF p_purpose <> 'care' THEN
        p_patients := ARRAY(SELECT DISTINCT c.patient_id FROM consent c
                            WHERE c.organisation_id = p_organisation AND c.purpose = p_purpose AND c.decision <> 'given'
                              AND c.patient_id = ANY (p_patients));
        IF p_patients <> '{}' THEN
            RETURN QUERY
                SELECT s.patient_id, array_agg(s.data_class ORDER BY s.data_class), max(s.decision_id), max(s.since)
                FROM consent_standing(p_organisation, p_purpose, p_patients) s WHERE s.decision <> 'given' GROUP BY 1;
        END IF;
    END IF;
END $$;

---------------------------------------------------------------- withheld from whoever asks
CREATE VIEW cared_for AS               -- patients of my teams, whatever they agreed to
    SELECT patient_id FROM care_team_patient
    WHERE team_id = ANY ((SELECT public.my_teams())::int[])
      AND valid_from <= (SELECT public.current_instant()) AND valid_to > (SELECT public.current_instant());
CREATE OR REPLACE VIEW person_team AS
    SELECT m.person_id, m.team_id, p.role FROM care_team_member m JOIN person p ON p.id = m.person_id AND public.is_care_role(p.role)
    WHERE m.valid_from <= public.current_instant() AND m.valid_to > public.current_instant();
-- With the purpose consent is asked for; null: one's own data, or an emergency, which goes before a consent to care.
CREATE OR REPLACE VIEW person_grant AS
    SELECT id AS person_id, patient_id, ARRAY['readings', 'alerts'] AS what, NULL AS purpose FROM person
    WHERE role = 'patient' AND patient_id IS NOT NULL
    UNION ALL
    SELECT g.person_id, g.patient_id, g.what, 'family' FROM proxy_grant g JOIN person p ON p.id = g.person_id AND p.role = 'proxy'
    WHERE g.valid_from <= public.current_instant() AND g.valid_to > public.current_instant()
    UNION ALL
    SELECT b.person_id, b.patient_id, ARRAY['readings', 'alerts'],
           CASE WHEN public.purpose_of(p.role) <> 'care' THEN public.purpose_of(p.role) END
    FROM break_glass b JOIN person p ON p.id = b.person_id AND public.is_care_role(p.role)
    WHERE b.opened_at <= public.current_instant() AND b.until > public.current_instant();

-- What is withheld from the person who asks, of the patients they would see otherwise. Where nobody said no and nothing
-- rests on consent, that is known after one look at the rules.
CREATE FUNCTION my_withholding()
RETURNS TABLE (patient_id int, purpose text, classes text[], decision_id bigint, since timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    here int := current_organisation();
    asked text := (SELECT purpose_of(p.role) FROM person p WHERE p.id = current_person() AND p.organisation_id = here);
    mine int[];
BEGIN
    IF asked IS NULL THEN RETURN; END IF;
    IF consent_basis(here, asked) <> 'consent' AND (asked = 'care' OR NOT EXISTS (
           SELECT FROM consent c WHERE c.organisation_id = here AND c.purpose = asked AND c.decision <> 'given')) THEN
        RETURN;
    END IF;
    SELECT array_agg(DISTINCT p.id) INTO mine
    FROM (SELECT t.patient_id AS id FROM care_team_patient t
          WHERE t.team_id = ANY (my_teams()) AND t.valid_from <= current_instant() AND t.valid_to > current_instant()
          UNION ALL
          SELECT g.patient_id FROM person_grant g WHERE g.person_id = current_person() AND g.purpose IS NOT NULL) AS p
    WHERE NOT EXISTS (SELECT FROM person_grant g
                      WHERE g.person_id = current_person() AND g.patient_id = p.id AND g.purpose IS NULL);
    RETURN QUERY SELECT w.patient_id, asked, w.classes, w.decision_id, w.since FROM withheld(here, asked, mine) w;
END $$;
-- Patients of whom everything is withheld, and patient and metric (in one number) where only some classes are.
CREATE FUNCTION my_withheld() RETURNS int[] LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce(array_agg(w.patient_id), '{}') FROM my_withholding() w WHERE w.classes @> consent_classes()
$$;
CREATE FUNCTION my_withheld_metrics() RETURNS bigint[] LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce(array_agg(w.patient_id::bigint << 16 | m.id), '{}')
    FROM my_withholding() w JOIN metric m ON m.data_class IS NULL OR m.data_class = ANY (w.classes)
$$;
CREATE FUNCTION metric_number(p_key text) RETURNS smallint LANGUAGE sql STABLE AS
$$ SELECT m.id FROM public.metric m WHERE m.key = p_key $$;

-- The policies of 0010 look here: a patient of whom everything is withheld is not there. One list a query, hashed.
CREATE OR REPLACE VIEW team_patient AS
    SELECT patient_id FROM cared_for WHERE patient_id NOT IN (SELECT unnest((SELECT public.my_withheld())::int[]));
CREATE OR REPLACE FUNCTION my_grants(p_what text) RETURNS int[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce(array_agg(patient_id), '{}') FROM person_grant
    WHERE person_id = current_person() AND (p_what IS NULL OR p_what = ANY (what))
      AND (purpose IS NULL OR patient_id NOT IN (SELECT unnest(my_withheld())))  -- a query: not run by the planner
$$;
DO $$
DECLARE
    name text; was text; more text;
    of_metric constant text := '(%1$I.patient_id::bigint << 16 | %2$s) NOT IN (SELECT unnest((SELECT public.my_withheld_metrics())::bigint[]))';
    whole constant text := '%I.patient_id NOT IN (SELECT (w >> 16)::int FROM unnest((SELECT public.my_withheld_metrics())::bigint[]) AS w)';
BEGIN
    FOREACH name IN ARRAY ARRAY['metric_state', 'reading_block', 'waveform_block', 'rollup', 'baseline_band', 'daily_value',
                                'reading_conflict', 'quarantined_reading', 'reading_superseded',
                                'alert', 'alert_event', 'suppressed_finding'] LOOP
        SELECT pg_get_expr(polqual, polrelid) INTO STRICT was FROM pg_policy WHERE polname = 'by_sight' AND polrelid = name::regclass;
        more := CASE name
            -- an alert goes by its metric; a technical one about the device itself by none, any other without one by all
            WHEN 'alert' THEN '(' || format(whole, name) || ' OR CASE WHEN alert.evidence ? ''metric'' THEN coalesce('
                || format(of_metric, name, 'public.metric_number(alert.evidence ->> ''metric'')')
                || ', false) ELSE alert.kind = ''technical'' END)'
            WHEN 'alert_event' THEN '(' || format(whole, name)
                || ' OR EXISTS (SELECT FROM public.alert a WHERE a.id = alert_event.alert_id))'
            WHEN 'suppressed_finding' THEN format(whole, name)
            ELSE format(of_metric, name, name || '.metric_id') END;
        EXECUTE format('ALTER POLICY by_sight ON %I USING ((%s) AND %s) WITH CHECK ((%s) AND %s)', name, was, more, was, more);
    END LOOP;
END $$;

-- Why somebody is not shown what their team or a grant would let them see: the patient, an alert or a frame of this
-- key; "any": also a patient of whom only some classes are withheld.
CREATE FUNCTION my_denial(p_kind text, p_key text)
RETURNS TABLE (patient_id int, purpose text, classes text[], decision_id bigint, since timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT w.patient_id, w.purpose, w.classes, w.decision_id, w.since
    FROM (SELECT p.id, NULL::text AS metric FROM patient p
          WHERE p_kind IN ('patient', 'any') AND p.organisation_id = current_organisation() AND p.key = p_key AND p.erased_at IS NULL
          UNION ALL
          SELECT a.patient_id, a.evidence ->> 'metric' FROM alert a
          WHERE p_kind = 'alert' AND a.organisation_id = current_organisation() AND a.id::text = p_key
          UNION ALL
          SELECT f.patient_id, NULL FROM frame_log f
          WHERE p_kind = 'frame' AND f.organisation_id = current_organisation() AND f.frame_id = p_key) AS one
    JOIN my_withholding() w ON w.patient_id = one.id
    WHERE w.classes @> consent_classes() OR p_kind IN ('alert', 'any')
$$;
-- A patient whose consent one may write down: of one's teams, whatever they agreed to, or oneself; and may read: also in an
-- emergency. A proxy neither.
CREATE FUNCTION is_me(p_patient int) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM person p WHERE p.id = current_person() AND p.role = 'patient' AND p.patient_id = p_patient)
$$;
CREATE FUNCTION is_opened_to_me(p_patient int) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM person_grant g
                   WHERE g.person_id = current_person() AND g.patient_id = p_patient AND g.purpose IS NULL)
$$;
CREATE FUNCTION may_decide_consent(p_patient int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM public.cared_for v WHERE v.patient_id = p_patient) OR public.is_me(p_patient)
$$;
CREATE FUNCTION may_see_consent(p_patient int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM public.cared_for v WHERE v.patient_id = p_patient) OR public.is_opened_to_me(p_patient)
$$;
CREATE FUNCTION consent_patient(p_key text)
RETURNS TABLE (id int, key text, name text, time_zone text, enrolled_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT p.id, p.key, p.name, p.time_zone, p.enrolled_at FROM patient p
    WHERE p.organisation_id = current_organisation() AND p.key = p_key AND p.erased_at IS NULL AND may_see_consent(p.id)
$$;
-- How a patient's consent stands, purpose by purpose (or for one) and class by class; of whom one may not see it, nothing.
CREATE FUNCTION consent_state(p_patient int, p_purpose text DEFAULT NULL)
RETURNS TABLE (purpose text, basis text, data_class text, decision_id bigint, decision text, since timestamptz,
               ends_at timestamptz, ended_by text, holds boolean, withheld boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$  -- plpgsql: planned once a session
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT u, consent_basis(p.organisation_id, u), k, s.decision_id, s.decision, s.since,
           CASE WHEN isfinite(s.ends_at) THEN s.ends_at END, s.ended_by, coalesce(s.holds, false),
           coalesce(k = ANY (w.classes), false)
    FROM patient p CROSS JOIN unnest(ARRAY['care', 'programme', 'research', 'genomics', 'family']) WITH ORDINALITY AS o (u, place)
    CROSS JOIN unnest(consent_classes()) AS k
    LEFT JOIN LATERAL consent_standing(p.organisation_id, u, ARRAY[p.id]) s ON s.data_class = k
    LEFT JOIN LATERAL withheld(p.organisation_id, u, ARRAY[p.id]) w ON true
    WHERE p.id = p_patient AND (p_purpose IS NULL OR u = p_purpose)
      AND (may_see_consent(p.id) OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = session_user AND (r.rolsuper OR r.rolbypassrls)))
    ORDER BY o.place, k;
END $$;
-- The birth date or age band of the newest profile, without which nobody can say who may decide.
CREATE FUNCTION consent_age_facts(p_patient int) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('birth_date', c.payload -> 'birth_date', 'age_band', c.payload -> 'age_band'))
    FROM patient_change c
    WHERE c.patient_id = p_patient AND c.kind = 'profile' AND c.subject = ''
      AND (may_see_consent(p_patient) OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = session_user AND (r.rolsuper OR r.rolbypassrls)))
    ORDER BY c.version DESC LIMIT 1
$$;

---------------------------------------------------------------- the stream and the doors
-- For which of these purposes an alert of a patient is withheld now.
CREATE FUNCTION alert_withheld_for(p_patient int, p_alert uuid, p_purposes text[]) RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce(array_agg(u), '{}')
    FROM unnest(p_purposes) AS u
    CROSS JOIN LATERAL withheld(current_organisation(), u, ARRAY[p_patient]) w
    LEFT JOIN alert a ON a.id = p_alert AND a.patient_id = p_patient
    WHERE w.classes @> consent_classes()
       OR CASE WHEN a.evidence ? 'metric' THEN coalesce((
                   SELECT m.data_class IS NULL OR m.data_class = ANY (w.classes) FROM metric m
                   WHERE m.key = a.evidence ->> 'metric'), true)
               ELSE a.kind IS DISTINCT FROM 'technical' END
$$;
CREATE OR REPLACE FUNCTION alert_events_for(p_persons int[], p_xid xid8, p_id bigint, p_below xid8, p_limit int)
RETURNS TABLE (xid text, id bigint, patient_id int, alert_id uuid, change text, priority text, late boolean, at timestamptz,
               sentence text, patient_sentence text, rule text, kind text, provisional boolean, patient_key text, seen_by int[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT e.xid::text, e.id, p.id, a.id, e.change, e.priority, e.late, e.at,
           CASE WHEN a.id IS NOT NULL THEN e.sentence END, a.patient_sentence, a.rule, a.kind, a.provisional, p.key, w.seen_by
    FROM (SELECT * FROM alert_event e
          WHERE e.organisation_id = current_organisation() AND (e.xid, e.id) > (p_xid, p_id) AND e.xid < p_below
          ORDER BY e.xid, e.id LIMIT p_limit) AS e
    CROSS JOIN LATERAL (
        SELECT alert_withheld_for(e.patient_id, e.alert_id, (
            SELECT array_agg(DISTINCT purpose_of(p.role)) FROM person p
            WHERE p.id = ANY (p_persons) AND purpose_of(p.role) IS NOT NULL)) AS purposes) AS denied
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(DISTINCT s.person_id), '{}') AS seen_by
        FROM (SELECT m.person_id, purpose_of(m.role) AS purpose FROM care_team_patient t JOIN person_team m USING (team_id)
              WHERE t.patient_id = e.patient_id AND t.valid_from <= current_instant() AND t.valid_to > current_instant()
              UNION ALL
              SELECT g.person_id, g.purpose FROM person_grant g WHERE g.patient_id = e.patient_id AND 'alerts' = ANY (g.what)) AS s
        WHERE s.person_id = ANY (p_persons) AND (s.purpose IS NULL OR s.purpose <> ALL (denied.purposes))) AS w
    LEFT JOIN alert a ON a.id = e.alert_id AND w.seen_by <> '{}'
    LEFT JOIN patient p ON p.id = a.patient_id
    ORDER BY e.xid, e.id
$$;
-- What the doors must not take: metrics of these patients, or all of them. Only where care itself rests on consent.
CREATE FUNCTION withheld_at_the_doors(p_patients int[]) RETURNS TABLE (patient_id int, metrics smallint[], everything boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM consent_rules r WHERE r.basis ->> 'care' = 'consent') THEN RETURN; END IF;
    RETURN QUERY
        SELECT w.patient_id, ARRAY(SELECT m.id FROM metric m WHERE m.data_class IS NULL OR m.data_class = ANY (w.classes)),
               w.classes @> consent_classes()
        FROM (SELECT p.organisation_id, array_agg(p.id) AS ids FROM patient p WHERE p.id = ANY (p_patients) GROUP BY 1) AS o
        CROSS JOIN LATERAL withheld(o.organisation_id, 'care', o.ids) w;
END $$;

---------------------------------------------------------------- what the patient is shown of who saw what
DROP FUNCTION audit_of_patient(int, timestamptz, timestamptz, text);
CREATE FUNCTION audit_of_patient(p_patient int, p_from timestamptz, p_to timestamptz, p_zone text)
RETURNS TABLE (day date, actor text, person_id int, name text, role text, action text, purpose text, outcome text, withheld boolean,
               times bigint, first_at timestamptz, last_at timestamptz, newest bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT (a.at AT TIME ZONE p_zone)::date, a.actor, a.person_id, a.name, a.role, a.action, a.purpose, a.outcome,
           coalesce(a.detail ->> 'code' = 'consent_withheld', false), count(*), min(a.at), max(a.at), max(a.id)
    FROM access_audit a
    WHERE a.organisation_id = current_organisation() AND a.at >= p_from AND a.at < p_to
      AND (a.patient_id = p_patient OR a.detail ? 'patient_ids' AND a.detail -> 'patient_ids' @> to_jsonb(p_patient))
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
$$;
GRANT CREATE ON SCHEMA public TO keepwell_auditor;
ALTER FUNCTION audit_of_patient OWNER TO keepwell_auditor;
REVOKE CREATE ON SCHEMA public FROM keepwell_auditor;
REVOKE ALL ON FUNCTION audit_of_patient FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_of_patient TO keepwell_api;

---------------------------------------------------------------- who may what
GRANT CREATE ON SCHEMA public TO keepwell_reader;
ALTER VIEW cared_for OWNER TO keepwell_reader;
REVOKE CREATE ON SCHEMA public FROM keepwell_reader;
GRANT SELECT ON cared_for TO keepwell_api;
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['consent_rules', 'consent_document', 'consent'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['consent_rules', 'consent_document'] LOOP
        EXECUTE format('CREATE POLICY by_organisation ON %I TO keepwell_api
                        USING (organisation_id = current_organisation()) WITH CHECK (organisation_id = current_organisation())', name);
    END LOOP;
END $$;
CREATE POLICY by_sight ON consent TO keepwell_api
    USING (organisation_id = current_organisation() AND may_see_consent(patient_id))
    WITH CHECK (organisation_id = current_organisation() AND may_decide_consent(patient_id) AND recorded_by = current_person());
CREATE POLICY writer ON consent TO keepwell_writer USING (true) WITH CHECK (true);  -- the processor erases
GRANT SELECT (patient_id), DELETE ON consent TO keepwell_writer;
GRANT SELECT, INSERT ON consent_rules, consent_document, consent TO keepwell_api;
REVOKE ALL ON FUNCTION is_me, is_opened_to_me, consent_standing, withheld, my_withholding, my_withheld, my_withheld_metrics, my_denial, consent_patient,
    consent_state, consent_age_facts, alert_withheld_for, withheld_at_the_doors FROM PUBLIC;
GRANT EXECUTE ON FUNCTION is_me, is_opened_to_me, my_withholding, my_denial, consent_patient, consent_state, consent_age_facts TO keepwell_api;
GRANT EXECUTE ON FUNCTION my_withheld, my_withheld_metrics TO keepwell_api, keepwell_reader;
GRANT EXECUTE ON FUNCTION withheld_at_the_doors TO keepwell_gateway;

-- Nothing is told about somebody who has died, and a sign-in that was refused is written down whoever it was.

-- Whether a patient's monitoring state is `deceased` at an instant.
CREATE FUNCTION is_deceased(p_patient int, p_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT coalesce((SELECT c.payload ->> 'state' = 'deceased' FROM patient_change c
                     WHERE c.patient_id = p_patient AND c.kind = 'monitoring' AND c.effective_at <= p_at
                     ORDER BY c.effective_at DESC, c.id DESC LIMIT 1), false)
$$;

-- As before (0010), but nobody sees what is written about a patient who has died: the stream passes it by.
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
        SELECT CASE WHEN is_deceased(e.patient_id, greatest(current_instant(), e.recorded_at)) THEN '{}'
                    ELSE coalesce(array_agg(DISTINCT s.person_id), '{}') END AS seen_by
        FROM (SELECT m.person_id FROM care_team_patient t JOIN person_team m USING (team_id)
              WHERE t.patient_id = e.patient_id AND t.valid_from <= current_instant() AND t.valid_to > current_instant()
              UNION ALL
              SELECT g.person_id FROM person_grant g WHERE g.patient_id = e.patient_id AND 'alerts' = ANY (g.what)) AS s
        WHERE s.person_id = ANY (p_persons)) AS w
    LEFT JOIN alert a ON a.id = e.alert_id AND w.seen_by <> '{}'
    LEFT JOIN patient p ON p.id = a.patient_id
    ORDER BY e.xid, e.id
$$;

-- The number of an organisation by its key, to write down that somebody tried to sign in there.
CREATE FUNCTION organisation_named(p_key text) RETURNS int
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT id FROM organisation WHERE key = p_key
$$;
REVOKE ALL ON FUNCTION organisation_named FROM PUBLIC;
GRANT EXECUTE ON FUNCTION organisation_named TO keepwell_api;

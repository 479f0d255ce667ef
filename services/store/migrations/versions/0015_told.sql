-- Nothing is told about somebody who has died, and a sign-in that was refused is written down whoever it was.

-- Whether a patient's monitoring state is `deceased` at an instant; what was said to hold at once holds at once, also
-- where a time-lapse runs ahead of the clock.
CREATE FUNCTION is_deceased(p_patient int, p_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT coalesce((SELECT c.payload ->> 'state' = 'deceased' FROM patient_change c
                     WHERE c.patient_id = p_patient AND c.kind = 'monitoring'
                       AND c.effective_at <= greatest(p_at, c.recorded_at)
                     ORDER BY c.effective_at DESC, c.id DESC LIMIT 1), false)
$$;
-- Which of these patients of the transaction's organisation have died. The stream asks for everybody who listens, so
-- as the owner.
CREATE FUNCTION deceased_among(p_patients int[]) RETURNS SETOF int
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT p.id FROM patient p WHERE p.id = ANY (p_patients) AND p.organisation_id = current_organisation()
        AND is_deceased(p.id, current_instant())
$$;

-- The number of an organisation by its key, to write down that somebody tried to sign in there.
CREATE FUNCTION organisation_named(p_key text) RETURNS int
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT id FROM organisation WHERE key = p_key
$$;
REVOKE ALL ON FUNCTION is_deceased, deceased_among, organisation_named FROM PUBLIC;
GRANT EXECUTE ON FUNCTION deceased_among, organisation_named TO keepwell_api;
GRANT EXECUTE ON FUNCTION is_deceased TO keepwell_writer;

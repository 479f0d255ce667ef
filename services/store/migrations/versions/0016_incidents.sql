-- Whom each of the teams of the person who asks looks after now: `team_patient` with the team's name.
CREATE VIEW my_team_patient AS
    SELECT t.key AS team_key, t.name AS team_name, c.patient_id
    FROM care_team_patient c JOIN care_team t ON t.id = c.team_id JOIN team_patient v ON v.patient_id = c.patient_id
    WHERE c.team_id = ANY ((SELECT public.my_teams())::int[])
      AND c.valid_from <= (SELECT public.current_instant()) AND c.valid_to > (SELECT public.current_instant());
GRANT CREATE ON SCHEMA public TO keepwell_reader;
ALTER VIEW my_team_patient OWNER TO keepwell_reader;
REVOKE CREATE ON SCHEMA public FROM keepwell_reader;
GRANT SELECT ON care_team TO keepwell_reader;
GRANT SELECT ON my_team_patient TO keepwell_api;

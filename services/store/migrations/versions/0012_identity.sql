-- Who somebody is: a password and codes of our own, or a subject of a provider; and what they hold: sessions, tokens.

ALTER TABLE person ADD COLUMN service boolean NOT NULL DEFAULT false;  -- a program: it has tokens, never an account

-- Everything somebody can show: links and invitations work once, sessions end by themselves, tokens are for programs.
ALTER TABLE person_token DROP CONSTRAINT person_token_kind_check;
ALTER TABLE person_token ADD CONSTRAINT person_token_kind_check
    CHECK (kind IN ('login_link', 'invitation', 'session', 'api', 'service', 'bearer'));
ALTER TABLE person_token
    ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN seen_at timestamptz,                 -- a session's last use by its person
    ADD COLUMN agent text NOT NULL DEFAULT '',      -- the browser, as it called itself
    ADD COLUMN prefix text UNIQUE,                  -- a service token's first characters: not secret, to name it by
    ADD COLUMN scopes text[],                       -- what a service token may do; NULL: what its person may
    ADD COLUMN provider_session text,               -- the provider's `sid`, to end it when the provider says so
    ADD COLUMN id_token bytea;                      -- sealed: shown to the provider at sign-out
CREATE INDEX ON person_token (person_id);
CREATE INDEX ON person_token (provider_session) WHERE provider_session IS NOT NULL;
CREATE POLICY by_organisation ON person_token TO keepwell_api
    USING (EXISTS (SELECT 1 FROM person p WHERE p.id = person_id AND p.organisation_id = current_organisation()))
    WITH CHECK (EXISTS (SELECT 1 FROM person p WHERE p.id = person_id AND p.organisation_id = current_organisation()));
GRANT SELECT (id, person_id, kind, created_at, expires_at, seen_at, used_at, revoked_at, agent, prefix, provider_session, id_token),
    INSERT, UPDATE (seen_at, used_at, revoked_at), DELETE ON person_token TO keepwell_api;

CREATE TABLE account (
    person_id int PRIMARY KEY REFERENCES person,
    organisation_id int NOT NULL,
    password_hash text NOT NULL,       -- Argon2id with its parameters and salt
    password_at timestamptz NOT NULL,
    totp_secret bytea NOT NULL,        -- sealed with identity.key
    totp_step bigint NOT NULL          -- the newest half minute whose code was used: it and older ones are refused
);
CREATE TABLE recovery_code (
    hash bytea PRIMARY KEY,            -- SHA-256 of 120 random bits
    person_id int NOT NULL REFERENCES account ON DELETE CASCADE,
    organisation_id int NOT NULL,
    used_at timestamptz                -- each works once
);
CREATE INDEX ON recovery_code (person_id);
CREATE TABLE person_subject (          -- who a subject of an OpenID Connect provider is
    issuer text NOT NULL,
    subject text NOT NULL,
    person_id int NOT NULL REFERENCES person,
    organisation_id int NOT NULL,
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject),
    UNIQUE (person_id, issuer)
);
CREATE TABLE sign_in_try (             -- failed tries by account and by address; before anybody is known
    subject bytea PRIMARY KEY,         -- SHA-256 of what was typed, or of the address
    tries int NOT NULL,
    last_at timestamptz NOT NULL
);
CREATE INDEX ON sign_in_try (last_at);

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['account', 'recovery_code', 'person_subject', 'sign_in_try'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['account', 'recovery_code', 'person_subject'] LOOP
        EXECUTE format('CREATE POLICY by_organisation ON %I TO keepwell_api
                        USING (organisation_id = current_organisation()) WITH CHECK (organisation_id = current_organisation())', name);
    END LOOP;
END $$;
CREATE POLICY before_sign_in ON sign_in_try TO keepwell_api USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON account TO keepwell_api;
GRANT SELECT, INSERT, UPDATE (used_at), DELETE ON recovery_code TO keepwell_api;
GRANT SELECT, INSERT ON person_subject TO keepwell_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON sign_in_try TO keepwell_api;

-- Looked up before the organisation is known, so as the owner; everything else goes by the policies above.
DROP FUNCTION person_of_token(bytea, timestamptz);
DROP FUNCTION holder_of_token(bytea);
CREATE FUNCTION holder_of_token(p_hash bytea, p_at timestamptz, p_idle interval)
RETURNS TABLE (person_id int, organisation_id int, person_key text, name text, role text, kind text, token_id bigint,
               scopes text[], seen_at timestamptz, state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT p.id, p.organisation_id, p.key, p.name, p.role, t.kind, t.id, t.scopes, t.seen_at,
           CASE WHEN t.revoked_at IS NOT NULL OR t.used_at IS NOT NULL THEN 'ended'
                WHEN t.expires_at <= p_at THEN 'expired'
                WHEN t.kind = 'session' AND coalesce(t.seen_at, t.created_at) + p_idle <= p_at THEN 'idle'
                ELSE 'open' END
    FROM person_token t JOIN person p ON p.id = t.person_id WHERE t.hash = p_hash
$$;
CREATE FUNCTION account_of(p_organisation text, p_key text)
RETURNS TABLE (person_id int, organisation_id int, person_key text, name text, role text, password_hash text, totp_secret bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT p.id, p.organisation_id, p.key, p.name, p.role, a.password_hash, a.totp_secret
    FROM organisation o JOIN person p ON p.organisation_id = o.id LEFT JOIN account a ON a.person_id = p.id
    WHERE o.key = p_organisation AND p.key = p_key AND NOT p.service
$$;
CREATE FUNCTION person_of_subject(p_issuer text, p_subject text)
RETURNS TABLE (person_id int, organisation_id int, person_key text, name text, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT p.id, p.organisation_id, p.key, p.name, p.role
    FROM person_subject s JOIN person p ON p.id = s.person_id WHERE s.issuer = p_issuer AND s.subject = p_subject
$$;
-- A provider's token says which role its subject has (role_map): of nobody else can the application's role change it.
CREATE FUNCTION role_by_provider(p_issuer text, p_subject text, p_role text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    UPDATE person p SET role = p_role FROM person_subject s
    WHERE s.issuer = p_issuer AND s.subject = p_subject AND p.id = s.person_id
$$;
-- The provider says a sign-in ended: of one of its sessions, or of everything a subject holds.
CREATE FUNCTION end_provider_session(p_issuer text, p_subject text, p_session text, p_at timestamptz) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH ended AS (
        UPDATE person_token t SET revoked_at = p_at
        FROM person_subject s
        WHERE s.issuer = p_issuer AND t.person_id = s.person_id AND t.kind IN ('session', 'bearer') AND t.revoked_at IS NULL
          AND t.provider_session IS NOT NULL AND (p_subject IS NULL OR s.subject = p_subject)
          AND (p_session IS NULL OR t.provider_session = p_session) AND coalesce(p_subject, p_session) IS NOT NULL
        RETURNING 1
    )
    SELECT count(*) FROM ended
$$;
-- The key of the transaction's own organisation, and of no other.
CREATE FUNCTION organisation_key() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT key FROM organisation WHERE id = current_organisation()
$$;
REVOKE ALL ON FUNCTION organisation_key, holder_of_token, account_of, person_of_subject, role_by_provider, end_provider_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION organisation_key, holder_of_token, account_of, person_of_subject, role_by_provider, end_provider_session TO keepwell_api;

-- What an API key may do, whose it is, when it ends, and when it was last used.

ALTER TABLE api_key
    ADD COLUMN client_id uuid,
    ADD COLUMN scopes text[] NOT NULL DEFAULT '{admin}',
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN expires_at timestamptz;
UPDATE api_key SET client_id = id;
ALTER TABLE api_key
    ALTER COLUMN client_id SET NOT NULL,
    ALTER COLUMN scopes DROP DEFAULT,
    ADD CONSTRAINT api_key_scopes CHECK (cardinality(scopes) >= 1 AND scopes <@ ARRAY
        ['orders:read', 'orders:write', 'payments:write', 'inventory:write', 'admin']);
COMMENT ON COLUMN api_key.client_id IS 'Whose key it is: a key and those that it was rotated to are of one client';
COMMENT ON COLUMN api_key.scopes IS 'What it may do; see domain::access::Scope';
COMMENT ON COLUMN api_key.last_used_at IS 'When it was last used, to within a minute';
COMMENT ON COLUMN api_key.expires_at IS 'From when on it is refused: the end of the grace time of a key that was rotated';
-- The live keys of a client are counted whenever it gets one.
CREATE INDEX api_key_client_idx ON api_key (client_id, id);

-- A client that changes its key in the middle of a request must not lose what protects it from doing it twice.
ALTER TABLE idempotency_key RENAME COLUMN api_key_id TO client_id;
COMMENT ON COLUMN idempotency_key.client_id IS 'Whose request it was: the keys of two clients never meet';
COMMENT ON COLUMN idempotency_key.digest IS 'First 16 bytes of the SHA-256 of client_id, route and key, with a line feed between them';

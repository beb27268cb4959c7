-- All instants are milliseconds since 1970, all money is milli-cents (100,000 to the dollar).
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dispatch (
    dispatch_id     TEXT PRIMARY KEY,
    kind            TEXT NOT NULL CHECK (kind IN ('call', 'purchase')),
    tenant          TEXT NOT NULL,
    fingerprint     TEXT NOT NULL,
    idempotency_key TEXT,
    callee_masked   TEXT,
    callee_hash     TEXT,
    agent_id        TEXT,
    rule            TEXT NOT NULL,
    confirmed_by    TEXT NOT NULL,
    intent_at       INTEGER NOT NULL,
    lease_until     INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    hold            INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('intent', 'unknown', 'not_placed', 'placed', 'finished')),
    reason          TEXT,
    remote_id       TEXT,
    outcome         TEXT,
    cost            INTEGER,
    CHECK ((state IN ('placed', 'finished')) = (remote_id IS NOT NULL)),
    CHECK ((state = 'finished') = (outcome IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX dispatch_by_fingerprint ON dispatch (tenant, fingerprint, intent_at);
CREATE INDEX dispatch_by_key ON dispatch (tenant, idempotency_key, intent_at) WHERE idempotency_key IS NOT NULL;
CREATE INDEX dispatch_by_time ON dispatch (tenant, intent_at, dispatch_id);
CREATE INDEX dispatch_by_callee ON dispatch (tenant, callee_hash, intent_at) WHERE callee_hash IS NOT NULL;
CREATE INDEX dispatch_by_remote_id ON dispatch (tenant, remote_id, intent_at) WHERE remote_id IS NOT NULL;
CREATE INDEX dispatch_open ON dispatch (tenant, intent_at) WHERE state IN ('intent', 'unknown');

CREATE TABLE token (
    tenant     TEXT NOT NULL,
    token_id   TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, token_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_by_expiry ON token (expires_at);

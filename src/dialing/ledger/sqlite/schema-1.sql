-- All instants are milliseconds since 1970, all money is milli-cents (100,000 to the dollar).
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dispatch (
    dispatch_id     TEXT PRIMARY KEY,
    kind            TEXT NOT NULL CHECK (kind IN ('call', 'purchase')),
    account_id      TEXT NOT NULL,
    fingerprint     TEXT NOT NULL,
    idempotency_key TEXT,
    callee_masked   TEXT,
    callee_hash     TEXT,
    agent_id        TEXT,
    rule            TEXT NOT NULL,
    confirmed_by    TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    lease_expires_at INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    hold_milli_cents INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('intent', 'unknown', 'not_placed', 'placed', 'finished')),
    reason          TEXT,
    remote_id       TEXT,
    outcome         TEXT,
    cost_milli_cents INTEGER,
    CHECK ((state IN ('placed', 'finished')) = (remote_id IS NOT NULL)),
    CHECK ((state = 'finished') = (outcome IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX dispatch_by_fingerprint ON dispatch (account_id, fingerprint, created_at);
CREATE INDEX dispatch_by_key ON dispatch (account_id, idempotency_key, created_at) WHERE idempotency_key IS NOT NULL;
CREATE INDEX dispatch_by_time ON dispatch (account_id, created_at, dispatch_id);
CREATE INDEX dispatch_by_callee ON dispatch (account_id, callee_hash, created_at) WHERE callee_hash IS NOT NULL;
CREATE INDEX dispatch_by_remote_id ON dispatch (account_id, remote_id, created_at) WHERE remote_id IS NOT NULL;
CREATE INDEX dispatch_open ON dispatch (account_id, created_at) WHERE state IN ('intent', 'unknown');

CREATE TABLE used_token (
    account_id      TEXT NOT NULL,
    token_id        TEXT NOT NULL,
    expires_at      INTEGER NOT NULL,
    PRIMARY KEY (account_id, token_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX used_token_by_expiry ON used_token (expires_at);

-- All instants are milliseconds since 1970, all money is milli-cents (100,000 to the dollar).
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- The organization's account of each API key, by the key's hash.
CREATE TABLE api_key (
    key_hash        TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Each record is JSON; the other columns are those by which it is found and counted. The record is last, where SQLite may
-- put it into other pages.
CREATE TABLE dispatch (
    dispatch_id     TEXT PRIMARY KEY,
    -- By the dialing clock.
    created_at      INTEGER NOT NULL,
    -- Until when the call counts as in progress, if its end is not learned before.
    in_progress_until INTEGER,
    kind            TEXT NOT NULL AS (record ->> '$.kind') STORED CHECK (kind IN ('call', 'purchase')),
    -- The organization's account.
    account_id      TEXT NOT NULL AS (record ->> '$.account_id') STORED,
    caller          TEXT NOT NULL AS (record ->> '$.caller') STORED,
    fingerprint     TEXT NOT NULL AS (record ->> '$.fingerprint') STORED,
    idempotency_key TEXT AS (record ->> '$.idempotency_key') STORED,
    callee_hash     TEXT AS (record ->> '$.callee.hash') STORED,
    agent_id        TEXT AS (record ->> '$.agent_id') STORED,
    -- The row of a batch that the call is an attempt of.
    batch_id        TEXT AS (record ->> '$.attempt.batch_id') STORED,
    batch_row       INTEGER AS (record ->> '$.attempt.row') STORED,
    state           TEXT NOT NULL AS (record ->> '$.state') STORED
        CHECK (state IN ('intent', 'unknown', 'not_placed', 'placed', 'finished')),
    remote_id       TEXT AS (record ->> '$.id') STORED,
    outcome         TEXT AS (record ->> '$.outcome') STORED,
    -- The billed amount, and the hold until it is known.
    amount          INTEGER NOT NULL
        AS (CAST(coalesce(record ->> '$.cost_milli_cents', record ->> '$.hold_milli_cents') AS INTEGER)) STORED,
    -- Whether the final result of the call was read.
    result_read     INTEGER NOT NULL AS (record ->> '$.is_result_read') STORED,
    record          TEXT NOT NULL,
    CHECK ((state IN ('placed', 'finished')) = (remote_id IS NOT NULL)),
    CHECK ((state = 'finished') = (outcome IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX dispatch_by_fingerprint ON dispatch (account_id, fingerprint, created_at);
CREATE INDEX dispatch_by_key ON dispatch (account_id, idempotency_key, created_at) WHERE idempotency_key IS NOT NULL;
CREATE INDEX dispatch_by_time ON dispatch (account_id, created_at, dispatch_id);
CREATE INDEX dispatch_by_callee ON dispatch (account_id, callee_hash, created_at) WHERE callee_hash IS NOT NULL;
CREATE INDEX dispatch_by_remote_id ON dispatch (account_id, remote_id, created_at) WHERE remote_id IS NOT NULL;
CREATE INDEX dispatch_open ON dispatch (account_id, created_at) WHERE state IN ('intent', 'unknown');
CREATE INDEX dispatch_by_row ON dispatch (batch_id, batch_row) WHERE batch_id IS NOT NULL;

CREATE TABLE used_token (
    account_id      TEXT NOT NULL,
    token_id        TEXT NOT NULL,
    expires_at      INTEGER NOT NULL,
    PRIMARY KEY (account_id, token_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX used_token_by_expiry ON used_token (expires_at);

CREATE TABLE batch (
    batch_id        TEXT PRIMARY KEY,
    created_at      INTEGER NOT NULL,
    -- When the list is erased: one that nobody confirmed, or the people of one that has ended.
    erase_at        INTEGER,
    account_id      TEXT NOT NULL AS (record ->> '$.account_id') STORED,
    agent_id        TEXT NOT NULL AS (record ->> '$.agent_id') STORED,
    state           TEXT NOT NULL AS (record ->> '$.state') STORED
        CHECK (state IN ('asked', 'running', 'paused', 'interrupted', 'canceled', 'ended')),
    -- The list without the order of its rows.
    fingerprint     TEXT NOT NULL AS (record ->> '$.fingerprint') STORED,
    idempotency_key TEXT AS (record ->> '$.idempotency_key') STORED,
    record          TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX batch_by_time ON batch (account_id, created_at, batch_id);
CREATE INDEX batch_by_fingerprint ON batch (account_id, fingerprint, created_at);
CREATE INDEX batch_by_key ON batch (account_id, idempotency_key, created_at) WHERE idempotency_key IS NOT NULL;
CREATE INDEX batch_by_erasure ON batch (account_id, erase_at) WHERE erase_at IS NOT NULL;

CREATE TABLE batch_row (
    batch_id        TEXT NOT NULL REFERENCES batch (batch_id) ON DELETE CASCADE,
    batch_row       INTEGER NOT NULL,
    account_id      TEXT NOT NULL,
    callee_hash     TEXT NOT NULL AS (record ->> '$.callee.hash') STORED,
    state           TEXT NOT NULL AS (record ->> '$.state') STORED
        CHECK (state IN ('waiting', 'calling', 'done', 'refused', 'not_called', 'unknown')),
    record          TEXT NOT NULL,
    PRIMARY KEY (batch_id, batch_row)
) STRICT, WITHOUT ROWID;
CREATE INDEX batch_row_by_callee ON batch_row (account_id, callee_hash) WHERE state IN ('waiting', 'calling');

-- Numbers that are not called. The only table that keeps whole numbers for good.
CREATE TABLE opt_out (
    account_id      TEXT NOT NULL,
    number          TEXT NOT NULL,
    recorded_at     INTEGER NOT NULL,
    callee_hash     TEXT NOT NULL AS (record ->> '$.callee') STORED,
    source          TEXT NOT NULL AS (record ->> '$.source') STORED
        CHECK (source IN ('call', 'tool', 'terminal', 'import')),
    record          TEXT NOT NULL,
    PRIMARY KEY (account_id, number, recorded_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX opt_out_by_callee ON opt_out (account_id, callee_hash);
CREATE INDEX opt_out_by_tool ON opt_out (account_id, recorded_at) WHERE source = 'tool';

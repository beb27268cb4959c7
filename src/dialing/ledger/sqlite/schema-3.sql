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

CREATE TABLE dispatch (
    dispatch_id     TEXT PRIMARY KEY,
    kind            TEXT NOT NULL CHECK (kind IN ('call', 'purchase')),
    -- The organization's account.
    account_id      TEXT NOT NULL,
    caller          TEXT NOT NULL,
    fingerprint     TEXT NOT NULL,
    -- JSON: the hash of each argument, by name.
    arguments       TEXT NOT NULL,
    idempotency_key TEXT,
    callee_masked   TEXT,
    callee_hash     TEXT,
    agent_id        TEXT,
    -- The row of a batch that the call is an attempt of.
    batch_id        TEXT,
    batch_row       INTEGER,
    attempt         INTEGER,
    -- Which process runs the batch.
    batch_generation INTEGER,
    rule            TEXT NOT NULL,
    confirmed_by    TEXT NOT NULL,
    -- The same moment by the dialing clock and by the machine's, which measures the lease.
    created_at      INTEGER NOT NULL,
    written_at      INTEGER NOT NULL,
    lease_expires_at INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    hold_milli_cents INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('intent', 'unknown', 'not_placed', 'placed', 'finished')),
    -- Of an unknown dispatch: when a complete search first did not find it.
    absent_since    INTEGER,
    -- Until when the call counts as in progress, if its end is not learned before.
    in_progress_until INTEGER,
    reason          TEXT,
    remote_id       TEXT,
    outcome         TEXT,
    cost_milli_cents INTEGER,
    -- Whether the final result of the call was read.
    result_read     INTEGER NOT NULL DEFAULT FALSE,
    CHECK ((state IN ('placed', 'finished')) = (remote_id IS NOT NULL)),
    CHECK ((state = 'finished') = (outcome IS NOT NULL)),
    CHECK ((batch_id IS NULL) = (batch_row IS NULL) AND (batch_id IS NULL) = (attempt IS NULL)
        AND (batch_id IS NULL) = (batch_generation IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX dispatch_by_fingerprint ON dispatch (account_id, fingerprint, created_at);
CREATE INDEX dispatch_by_key ON dispatch (account_id, idempotency_key, created_at) WHERE idempotency_key IS NOT NULL;
CREATE INDEX dispatch_by_time ON dispatch (account_id, created_at, dispatch_id);
CREATE INDEX dispatch_by_caller ON dispatch (account_id, caller, created_at);
CREATE INDEX dispatch_by_callee ON dispatch (account_id, callee_hash, created_at) WHERE callee_hash IS NOT NULL;
CREATE INDEX dispatch_by_remote_id ON dispatch (account_id, remote_id, created_at) WHERE remote_id IS NOT NULL;
CREATE INDEX dispatch_open ON dispatch (account_id, created_at) WHERE state IN ('intent', 'unknown');
CREATE INDEX dispatch_in_progress ON dispatch (account_id, in_progress_until) WHERE in_progress_until IS NOT NULL;
CREATE INDEX dispatch_by_row ON dispatch (batch_id, batch_row) WHERE batch_id IS NOT NULL;

CREATE TABLE used_token (
    account_id      TEXT NOT NULL,
    token_id        TEXT NOT NULL,
    expires_at      INTEGER NOT NULL,
    PRIMARY KEY (account_id, token_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX used_token_by_expiry ON used_token (expires_at);

-- A batch and its rows are JSON; the other columns are those by which they are found.
CREATE TABLE batch (
    batch_id        TEXT PRIMARY KEY,
    account_id      TEXT NOT NULL,
    agent_id        TEXT NOT NULL,
    state           TEXT NOT NULL
        CHECK (state IN ('asked', 'running', 'paused', 'interrupted', 'canceled', 'ended')),
    -- The list without the order of its rows.
    fingerprint     TEXT NOT NULL,
    idempotency_key TEXT,
    created_at      INTEGER NOT NULL,
    -- When the list is erased: one that nobody confirmed, or the people of one that has ended.
    erase_at        INTEGER,
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
    callee_hash     TEXT NOT NULL,
    state           TEXT NOT NULL
        CHECK (state IN ('waiting', 'calling', 'done', 'refused', 'not_called', 'unknown')),
    record          TEXT NOT NULL,
    PRIMARY KEY (batch_id, batch_row)
) STRICT, WITHOUT ROWID;
CREATE INDEX batch_row_by_callee ON batch_row (account_id, callee_hash) WHERE state IN ('waiting', 'calling');

-- Numbers that are not called. The only table that keeps whole numbers for good.
CREATE TABLE opt_out (
    account_id      TEXT NOT NULL,
    number          TEXT NOT NULL,
    callee_hash     TEXT NOT NULL,
    recorded_at     INTEGER NOT NULL,
    source          TEXT NOT NULL CHECK (source IN ('call', 'tool', 'terminal', 'import')),
    -- The call in which it was said.
    remote_id       TEXT,
    caller          TEXT NOT NULL,
    reason          TEXT NOT NULL,
    -- NULL: for good.
    expires_at      INTEGER,
    removed_at      INTEGER,
    removal_reason  TEXT,
    PRIMARY KEY (account_id, number, recorded_at),
    CHECK ((removed_at IS NULL) = (removal_reason IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX opt_out_by_callee ON opt_out (account_id, callee_hash);
CREATE INDEX opt_out_by_tool ON opt_out (account_id, recorded_at) WHERE source = 'tool';

-- Shared by all scripts. KEYS[1] is the account's prefix. Every key begins with it, so all keys of an account are in one
-- hash slot. A record is stored as {"created_ms", "in_progress_until_ms", "record"} and never encoded again here.
local P = KEYS[1]

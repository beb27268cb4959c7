//! A simulator of the CallingBox REST API on a real port. Shares no code with `api`: only the wire.

//! The typed client of the CallingBox REST API. Knows HTTP and the contract, nothing of MCP.

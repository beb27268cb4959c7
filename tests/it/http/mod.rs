//! `callingbox-mcp http` as clients meet it: the real program on a free port, with the simulator.
mod auth;
mod documents;
mod health;
mod issuer;
mod leaving;
mod limits;
mod load;
mod logs;
mod narrowing;
mod oauth;
mod protocol;
mod reload;
mod shutdown;
mod support;
mod webhooks;

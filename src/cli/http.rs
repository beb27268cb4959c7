//! What can be typed for a server over HTTP: `http`, `healthcheck` and `token`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use secrecy::SecretString;

use super::{address, server_url};
use crate::mcp::toolset::Toolset;

/// How the callers of `http` show who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// Not at all: whoever reaches it uses the server's own key.
    #[default]
    None,
    /// By their own CallingBox key, as bearer token. Each key is an account of its own.
    Key,
    /// By a token of this server (see `token`). The server holds the key.
    Token,
    /// By an access token (JWT) of an authorization server, by the scopes calls:read, calls:place,
    /// agents:write, numbers:purchase and webhooks:write. The server holds the key.
    Oauth,
}

/// Options of `http --auth oauth`.
#[derive(Debug, Clone, Default, Args)]
pub struct OAuth {
    /// With --auth oauth: the authorization server, exactly as its tokens name it in `iss`. Its metadata
    /// says where its keys are. https, or http on this machine.
    #[arg(long, value_name = "URL", env = "CALLINGBOX_MCP_OAUTH_ISSUER")]
    pub oauth_issuer: Option<String>,
    /// With --auth oauth: this server, exactly as tokens name it in `aud`, such as
    /// `https://phone.example.com/mcp`. Its host is allowed without --allowed-host.
    #[arg(long, value_name = "URL", env = "CALLINGBOX_MCP_OAUTH_RESOURCE")]
    pub oauth_resource: Option<String>,
    /// With --auth oauth: where the keys of the authorization server are, if its metadata does not say.
    #[arg(long, value_name = "URL", env = "CALLINGBOX_MCP_OAUTH_JWKS_URL")]
    pub oauth_jwks_url: Option<String>,
}

/// Options of `http`.
#[derive(Debug, Clone, Args)]
pub struct Http {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    pub listen: SocketAddr,
    /// Where to answer /healthz, /readyz and /metrics; without it, they are among the others, and
    /// /metrics only on loopback. Whoever reaches it can read them.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub admin_listen: Option<SocketAddr>,
    /// How callers show who they are.
    #[arg(long, value_enum, default_value_t, env = "CALLINGBOX_MCP_AUTH")]
    pub auth: Auth,
    /// Listen on other addresses than loopback although callers need not show who they are.
    #[arg(long)]
    pub unsafe_no_auth: bool,
    /// The file of tokens. Default: callingbox-mcp/tokens.toml in the user's configuration folder.
    #[arg(long, value_name = "FILE", env = "CALLINGBOX_MCP_TOKENS")]
    pub tokens: Option<PathBuf>,
    /// Of the authorization server.
    #[command(flatten)]
    pub oauth: OAuth,
    /// A host name under which clients reach the server; may be repeated. Loopback always is one.
    #[arg(long, value_name = "HOST", value_delimiter = ',', env = "CALLINGBOX_MCP_ALLOWED_HOSTS")]
    pub allowed_host: Vec<String>,
    /// A web page's origin that may use the server; may be repeated. Loopback always may.
    #[arg(
        long,
        value_name = "ORIGIN",
        value_delimiter = ',',
        env = "CALLINGBOX_MCP_ALLOWED_ORIGINS"
    )]
    pub allowed_origin: Vec<String>,
    /// Where CallingBox reaches this server, such as `https://phone.example.com`: place_call then asks
    /// for this call's events there. Takes the signing secrets of CALLINGBOX_WEBHOOK_SECRET (several
    /// with commas) or of the file named by CALLINGBOX_WEBHOOK_SECRET_FILE (one a line).
    #[arg(long, value_name = "URL", env = "CALLINGBOX_MCP_WEBHOOK_PUBLIC_URL")]
    pub webhook_public_url: Option<url::Url>,
    /// No sessions, and so no questions to the human of a client older than 2026-07-28.
    #[arg(long)]
    pub stateless: bool,
    /// Sessions of all accounts together.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_sessions: u32,
    /// Sessions of one account.
    #[arg(long, value_name = "N", default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_sessions_per_tenant: u32,
    /// Seconds that a session is kept without a message; at least a minute more than a wait may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub session_idle: u64,
    /// Requests and streams of one account that are open at once.
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_streams_per_tenant: u32,
    /// Requests of one account in a second, on average; ten times as many at once.
    #[arg(long, value_name = "N", default_value = "100")]
    pub requests_per_second: std::num::NonZeroU32,
    /// Seconds that what is under way may take when the server is told to end.
    #[arg(long, value_name = "SECONDS", default_value_t = 25, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub grace: u64,
    /// Threads that serve. One is the fastest until it is a whole processor's work.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub threads: u16,
    /// What several replicas share.
    #[command(flatten)]
    pub state: State,
}

/// Where several replicas keep what they share.
#[derive(Debug, Clone, Default, Args)]
pub struct State {
    /// A Redis or Valkey that several replicas of this server share, so that any of them answers any request of 2026-07-28:
    /// `redis://`, `rediss://` (TLS), or the nodes of a cluster as `redis-cluster://` or
    /// `rediss-cluster://` with commas. It holds the ledger, the limits, the request rate and the ids of webhook
    /// events already received. An address with a password belongs into the environment.
    #[arg(
        long,
        value_name = "URL",
        env = "CALLINGBOX_MCP_STATE",
        hide_env_values = true,
        value_parser = secret
    )]
    pub state: Option<SecretString>,
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a result")]
fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(text.into())
}

/// Options of `healthcheck`.
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// The probe: /healthz (alive) or /readyz (ready to work).
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080/healthz", value_parser = server_url)]
    pub url: url::Url,
}

/// The commands under `token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print it, this once.
    Create {
        /// Whom it is for.
        name: String,
        /// How long it counts, such as 12h or 90d. Default: until it is revoked.
        #[arg(long, value_name = "SPAN")]
        expires: Option<String>,
        /// Only these groups of tools, of those that the server offers. (--read-only: only tools that
        /// change nothing.)
        #[arg(long = "only", value_name = "TOOLSETS", value_delimiter = ',')]
        only: Option<Vec<Toolset>>,
        /// The file of tokens.
        #[arg(long, value_name = "FILE", env = "CALLINGBOX_MCP_TOKENS")]
        tokens: Option<PathBuf>,
    },
    /// List the tokens there are; the tokens themselves are kept nowhere.
    List {
        /// The file of tokens.
        #[arg(long, value_name = "FILE", env = "CALLINGBOX_MCP_TOKENS")]
        tokens: Option<PathBuf>,
    },
    /// Take a token back. A running server notices within seconds.
    Revoke {
        /// Whose.
        name: String,
        /// The file of tokens.
        #[arg(long, value_name = "FILE", env = "CALLINGBOX_MCP_TOKENS")]
        tokens: Option<PathBuf>,
    },
}

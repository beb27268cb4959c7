//! The arguments of the commands about a server over HTTP: `http`, `healthcheck` and `token`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use secrecy::SecretString;

use super::values::{parse_address, parse_server_url};
use crate::toolset::Toolset;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// No authentication: every client uses the server's API key.
    #[default]
    None,
    /// The caller's own CallingBox API key, as a bearer token. Each key is an account of its own.
    Key,
    /// A token of this server (see `token`). The server holds the API key.
    Token,
    /// An access token (JWT) of an authorization server, with the scopes calls:read, calls:place, agents:write,
    /// numbers:purchase and webhooks:write. The server holds the API key.
    Oauth,
}

#[derive(Debug, Clone, Default, Args)]
pub struct OAuthArgs {
    /// With --auth oauth: the authorization server, exactly as its tokens name it in `iss`. Its metadata names its
    /// keys. The URL must be https, or http on this machine.
    #[arg(long, value_name = "URL", env = "CALLINGBOX_MCP_OAUTH_ISSUER")]
    pub oauth_issuer: Option<String>,
    /// With --auth oauth: this server, exactly as tokens name it in `aud`, such as
    /// `https://phone.example.com/mcp`. Its host is allowed without --allowed-host.
    #[arg(long, value_name = "URL", env = "CALLINGBOX_MCP_OAUTH_RESOURCE")]
    pub oauth_resource: Option<String>,
    /// With --auth oauth: the keys of the authorization server, if its metadata does not name them.
    #[arg(long, value_name = "URL", env = "CALLINGBOX_MCP_OAUTH_JWKS_URL")]
    pub oauth_jwks_url: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct HttpArgs {
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = parse_address)]
    pub listen: SocketAddr,
    /// A separate address for /healthz, /readyz and /metrics; everyone who can reach it can read them. Without it,
    /// they are served at --listen, and /metrics only on loopback.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub admin_listen: Option<SocketAddr>,
    /// How callers authenticate.
    #[arg(long, value_enum, default_value_t, env = "CALLINGBOX_MCP_AUTH")]
    pub auth: AuthMode,
    /// Allow --listen with an address other than loopback although callers do not authenticate.
    #[arg(long)]
    pub unsafe_no_auth: bool,
    /// The token file. Default: callingbox-mcp/tokens.toml in the user's configuration folder.
    #[arg(long, value_name = "FILE", env = "CALLINGBOX_MCP_TOKENS")]
    pub tokens: Option<PathBuf>,
    #[command(flatten)]
    pub oauth: OAuthArgs,
    /// A host name by which clients reach the server; can be repeated. Loopback is always allowed.
    #[arg(long, value_name = "HOST", value_delimiter = ',', env = "CALLINGBOX_MCP_ALLOWED_HOSTS")]
    pub allowed_host: Vec<String>,
    /// The origin of a web page that may use the server; can be repeated. Loopback is always allowed.
    #[arg(
        long,
        value_name = "ORIGIN",
        value_delimiter = ',',
        env = "CALLINGBOX_MCP_ALLOWED_ORIGINS"
    )]
    pub allowed_origin: Vec<String>,
    /// The URL by which CallingBox reaches this server, such as `https://phone.example.com`: place_call then
    /// requests the call's events there. Needs the signing secrets in CALLINGBOX_WEBHOOK_SECRET (separated by
    /// commas) or in the file named by CALLINGBOX_WEBHOOK_SECRET_FILE (one per line).
    #[arg(long, value_name = "URL", env = "CALLINGBOX_MCP_WEBHOOK_PUBLIC_URL")]
    pub webhook_public_url: Option<url::Url>,
    /// Serve without sessions. Clients older than 2026-07-28 then cannot ask their user for confirmation.
    #[arg(long)]
    pub stateless: bool,
    /// The maximum number of sessions, over all accounts.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_sessions: u32,
    /// The maximum number of sessions of one account.
    #[arg(long, value_name = "N", default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_sessions_per_tenant: u32,
    /// Seconds after which a session without messages ends; at least one minute more than a wait may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub session_idle: u64,
    /// The maximum number of concurrent requests and streams of one account.
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_streams_per_tenant: u32,
    /// The maximum number of requests per second of one account, on average; a burst may be ten times that.
    #[arg(long, value_name = "N", default_value = "100")]
    pub requests_per_second: std::num::NonZeroU32,
    /// Seconds that requests in progress may take when the server shuts down.
    #[arg(long, value_name = "SECONDS", default_value_t = 25, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub grace: u64,
    /// The number of threads. One thread is the fastest until it uses a whole processor.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub threads: u16,
    #[command(flatten)]
    pub state: StateArgs,
}

#[derive(Debug, Clone, Default, Args)]
pub struct StateArgs {
    /// The Redis or Valkey that several replicas of this server share: `redis://`, `rediss://` (TLS), or the nodes
    /// of a cluster, separated by commas, as `redis-cluster://` or `rediss-cluster://`. It holds the ledger, the
    /// limits, the request rate and the IDs of webhook events already received. Put a URL with a password into the environment variable.
    #[arg(
        long,
        value_name = "URL",
        env = "CALLINGBOX_MCP_STATE",
        hide_env_values = true,
        value_parser = |url: &str| Ok::<SecretString, Infallible>(url.into())
    )]
    pub state: Option<SecretString>,
}

#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The URL to check: /healthz (the server is alive) or /readyz (it can serve requests).
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080/healthz", value_parser = parse_server_url)]
    pub url: url::Url,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create tokens and print them. They cannot be shown again.
    ///
    /// One name prints the token alone; several names, or names from standard input, print a line for each token: its
    /// name, a tab, the token.
    Create {
        /// The names of the tokens, by which they are listed and revoked. Without a name, they are read from standard
        /// input, one per line.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// How long the token is valid, such as 12h or 90d. Default: until it is revoked.
        #[arg(long, value_name = "SPAN")]
        expires: Option<String>,
        /// Allow only these groups of tools, out of those that the server offers. (With --read-only: only tools
        /// that change nothing.)
        #[arg(long = "only", value_name = "TOOLSETS", value_delimiter = ',')]
        only: Option<Vec<Toolset>>,
        /// The token file.
        #[arg(long, value_name = "FILE", env = "CALLINGBOX_MCP_TOKENS")]
        tokens: Option<PathBuf>,
    },
    /// List the tokens by name. The tokens themselves are not stored.
    List {
        /// The token file.
        #[arg(long, value_name = "FILE", env = "CALLINGBOX_MCP_TOKENS")]
        tokens: Option<PathBuf>,
    },
    /// Revoke a token. A running server notices within seconds.
    Revoke {
        /// The name of the token.
        name: String,
        /// The token file.
        #[arg(long, value_name = "FILE", env = "CALLINGBOX_MCP_TOKENS")]
        tokens: Option<PathBuf>,
    },
}

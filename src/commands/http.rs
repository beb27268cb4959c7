//! `callingbox-mcp http`: serves MCP over HTTP until a signal ends the program.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::oauth;
use super::output::print;
use super::reload::{Sighup, spawn_reloads};
use super::shutdown_signal::shutdown_signal;
use crate::account::{Account, Environment};
use crate::cli::{AuthMode, HttpArgs};
use crate::config::{EnvReader, UserFolders};
use crate::env_var::read_env_var;
use crate::http::answer;
use crate::http::auth::Authenticator;
use crate::http::auth::api_key::{AccountOpener, ApiKeyAuth, KeyCheckError};
use crate::http::auth::authenticator::StaticTokenAuth;
use crate::http::call_events::CallEvents;
use crate::http::health::{self, Health};
use crate::http::layers::with_layers;
use crate::http::origin::{self, HostPolicy};
use crate::http::server::{HttpServer, HttpSettings};
use crate::http::tenant::{TenantLimits, Tenants};
use crate::mcp::catalogue::Catalogue;
use crate::mcp::registry::selection::Selection;
use crate::own_command::own_command;
use crate::protected_file::check_writers;
use crate::runtime::{self, AccountFactory, HttpExtras, Runtime};
use crate::settings::ProgramSettings;
use crate::state::SharedState;
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::{Exporter, Moment};
use crate::text_file::read_text;
use crate::webhook::{Rejection, WebhookReceiver};
use callingbox::ApiKey;
use callingbox::webhook_signature::SigningSecrets;

const WEBHOOK_SECRET_FILE: &str = "CALLINGBOX_WEBHOOK_SECRET_FILE";
/// The body of a 404.
const NOT_FOUND: &str = "there is nothing here";
/// How often the metrics recorder moves samples into their buckets.
const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

pub(super) async fn run(
    args: &HttpArgs,
    settings: &ProgramSettings,
    catalogue: Catalogue,
    selection: Selection,
) -> anyhow::Result<()> {
    let secrets = webhook_secrets(&read_env_var)?;
    let mut http_settings = server_settings(args, secrets.is_some())?;
    http_settings.log_arguments = settings.logs_arguments();
    // A session must not become idle while a wait sends nothing.
    let longest_wait = Duration::from_secs(settings.file.wait.max_seconds.saturating_add(60));
    http_settings.tenants.session_idle = http_settings.tenants.session_idle.max(longest_wait);
    // Listen early, so that no signal is lost.
    let shutdown = shutdown_signal()?;
    let sighup = Sighup::listen();
    let webhook_url =
        args.webhook_public_url.as_ref().map(|url| url.join(crate::webhook::PATH)).transpose()?;
    check_protected_files(args, settings)?;
    let shared = runtime::open_shared_state(&args.state, settings)?;
    http_settings.shared = shared.clone();
    let extras = HttpExtras { webhook_url, shared: shared.clone(), over_http: true };
    let runtime = Runtime::open_with(settings, extras, None).await?;
    http_settings.in_flight = runtime.dispatches();
    let account = runtime.account();
    let (catalogue, selection) = (Arc::new(catalogue), Arc::new(selection));
    let mut tokens = None;
    let mut metadata = Router::new();
    let (authenticator, own) = match args.auth {
        AuthMode::None => {
            (Authenticator::Anonymous(Arc::clone(&account)), Some(Arc::clone(&account)))
        }
        AuthMode::Key => (
            Authenticator::ApiKey(Box::new(ApiKeyAuth::new(Box::new(KeyAccounts::new(
                runtime.account_factory(),
            ))))),
            None,
        ),
        AuthMode::Token => {
            let path = token_file_path(args.tokens.clone(), &settings.folders)?;
            let (account, selection) = (Arc::clone(&account), Arc::clone(&selection));
            let is_missing = !path.exists();
            let authenticator = StaticTokenAuth::new(
                path,
                Arc::clone(&account),
                catalogue.index().clone(),
                selection,
            );
            let authenticator = if is_missing {
                authenticator.with_context(|| {
                    format!("create a token with `{} token create NAME`", own_command())
                })?
            } else {
                authenticator?
            };
            let authenticator = Arc::new(authenticator);
            tokens = Some(Arc::clone(&authenticator));
            (Authenticator::StaticToken(authenticator), Some(account))
        }
        AuthMode::Oauth => {
            let (account, selection) = (Arc::clone(&account), Arc::clone(&selection));
            let authenticator = oauth::resource_server(
                &args.oauth,
                Arc::clone(&account),
                catalogue.index(),
                selection,
            )?;
            metadata = authenticator.metadata_routes();
            http_settings.allowed = host_policy(args, authenticator.host())?;
            (Authenticator::OAuth(authenticator), Some(account))
        }
    };
    let ledger = runtime::ledger_location(settings, shared.clone());
    let health =
        Health::new(own.clone(), ledger, account.environment()).with_shared_state(shared.clone());
    let allowed = http_settings.allowed.clone();
    let has_named_hosts = allowed.has_named_hosts();
    let service = HttpServer::new(http_settings, catalogue, selection, authenticator, health);

    let listener = bind(args.listen).await?;
    if !args.listen.ip().is_loopback() && !has_named_hosts {
        tracing::warn!(
            "--listen {}: other machines get 403, because only loopback names are allowed as host; name the host that clients use with --allowed-host",
            args.listen
        );
    }
    let address = listener.local_addr()?;
    let admin = match args.admin_listen {
        None => None,
        Some(address) => Some(bind(address).await?),
    };
    let state = shared.clone();
    let events = CallEvents::new(own, Arc::clone(service.tenants()), shared.clone());
    let events = Arc::new(events);
    let receiving = tokio::spawn(Arc::clone(&events).receive());
    let webhooks = secrets.map(|secrets| WebhookReceiver::new(secrets, events, shared));
    let extra_routes =
        webhooks.as_ref().map_or_else(Router::new, WebhookReceiver::routes).merge(metadata);
    let exporter = Exporter::install()?;
    let upkeep = spawn_metrics_upkeep(exporter.clone());
    let mut probes = service.probe_routes();
    // On the public address everyone could read the metrics, callers through a proxy included.
    let has_admin_address = args.admin_listen.is_some();
    if has_admin_address || args.listen.ip().is_loopback() {
        let tenants = Arc::clone(service.tenants());
        let snapshot = move || snapshot(&tenants, webhooks.as_deref(), state.as_ref());
        let metrics = async move |request: Request| {
            if !has_admin_address && !origin::is_loopback_request(request.uri(), request.headers())
            {
                return answer::error_response(StatusCode::NOT_FOUND, NOT_FOUND);
            }
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            ([(http::header::CONTENT_TYPE, content_type)], exporter.render(&snapshot()))
                .into_response()
        };
        probes = probes.route("/metrics", axum::routing::get(metrics));
    }
    let (public, admin) = match admin {
        None => (service.routes(extra_routes.merge(probes)), None),
        Some(admin) => {
            let routes = with_layers(probes, NOT_FOUND, allowed.with_any_ip_address());
            print(format!("health on http://{}\n", admin.local_addr()?))?;
            (service.routes(extra_routes), Some((admin, routes)))
        }
    };
    let is_simulated = account.environment() == Environment::Sandbox;
    let notice = if is_simulated || runtime.account_factory().limits_spending() {
        ""
    } else {
        "no spending limit is set: `spend_per_day` under [limits] in policy.toml sets one\n"
    };
    // One write: a reader of the first line alone may be gone before a second one.
    print(format!("listening on http://{address}/mcp\n{notice}"))?;
    let tokens = tokens.map(|tokens| (tokens, Arc::clone(service.tenants())));
    let reloading = spawn_reloads(runtime.account_factory(), tokens, sighup);
    service.serve((listener, public), admin, shutdown).await;
    for task in [reloading, upkeep, receiving] {
        task.abort();
    }
    runtime.close().await
}

/// Without upkeep, the recorder keeps every sample until the metrics are read.
fn spawn_metrics_upkeep(exporter: Exporter) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(METRICS_UPKEEP_INTERVAL).await;
            exporter.tidy();
        }
    })
}

/// The values of the gauges at this moment.
fn snapshot(
    tenants: &Tenants,
    webhooks: Option<&WebhookReceiver>,
    state: Option<&SharedState>,
) -> Moment {
    let all = tenants.all();
    // Several tenants may share one account.
    let mut accounts: Vec<&Arc<Account>> = all.iter().map(|tenant| &tenant.account).collect();
    accounts.sort_by_key(|account| Arc::as_ptr(account));
    accounts.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let watched = accounts.iter().filter_map(|account| account.watchers().ok());
    let deliveries = webhooks.map(|webhooks| {
        let counts = webhooks.counts();
        let rejected = Rejection::ALL.map(|reason| (reason.as_str(), counts.rejected(reason)));
        rejected.into_iter().chain([("accepted", counts.accepted())]).collect()
    });
    Moment {
        sessions: tenants.session_count(),
        tenants: all.len(),
        watched: watched.map(|watchers| watchers.watched_calls()).sum(),
        shared_state: state.map(SharedState::is_subscribed),
        deliveries: deliveries.unwrap_or_default(),
    }
}

/// Refuses files that other users of this machine can change: the API key, the tokens, the secrets of webhooks, the
/// configuration and the calling rules.
fn check_protected_files(args: &HttpArgs, settings: &ProgramSettings) -> anyhow::Result<()> {
    let key = match settings.environment() {
        Environment::Live => settings.find_credentials()?.key,
        Environment::Sandbox => None,
    };
    let key_file = key.and_then(|(_, source)| source.path().map(Path::to_owned));
    let tokens = match args.auth {
        AuthMode::Token => Some(token_file_path(args.tokens.clone(), &settings.folders)?),
        AuthMode::None | AuthMode::Key | AuthMode::Oauth => None,
    };
    let webhook_secrets = read_env_var(WEBHOOK_SECRET_FILE)?.map(PathBuf::from);
    for path in
        [key_file, tokens, webhook_secrets].into_iter().flatten().chain(settings.rule_files())
    {
        check_writers(&path).context("a server over HTTP does not start")?;
    }
    Ok(())
}

/// The signing secrets of webhooks, if any are set.
fn webhook_secrets(read_env: EnvReader) -> anyhow::Result<Option<SigningSecrets>> {
    let file = read_env(WEBHOOK_SECRET_FILE)?;
    let text = match (read_env("CALLINGBOX_WEBHOOK_SECRET")?, file) {
        (Some(text), _) => text,
        (None, Some(path)) => {
            read_text(Path::new(&path)).with_context(|| format!("{WEBHOOK_SECRET_FILE}: {path}"))?
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(SigningSecrets::new(text.split([',', '\n']).map(str::to_owned))?))
}

fn server_settings(args: &HttpArgs, has_webhook_secrets: bool) -> anyhow::Result<HttpSettings> {
    let is_public = !args.listen.ip().is_loopback();
    anyhow::ensure!(
        !is_public || args.auth != AuthMode::None || args.unsafe_no_auth,
        "--listen {}: other machines can reach this address, and without authentication they could make calls at your expense; add --auth key, --auth token or --auth oauth, listen on 127.0.0.1, or add --unsafe-no-auth",
        args.listen
    );
    let (is_oauth, oauth) = (args.auth == AuthMode::Oauth, &args.oauth);
    for (flag, auth, is_unused) in [
        ("--oauth-issuer", "oauth", oauth.oauth_issuer.is_some() && !is_oauth),
        ("--oauth-resource", "oauth", oauth.oauth_resource.is_some() && !is_oauth),
        ("--oauth-jwks-url", "oauth", oauth.oauth_jwks_url.is_some() && !is_oauth),
        // CALLINGBOX_MCP_TOKENS may be set for all servers of a machine, but not where callers do not authenticate.
        ("--tokens", "token", args.tokens.is_some() && args.auth == AuthMode::None),
    ] {
        anyhow::ensure!(
            !is_unused,
            "{flag} has no effect without --auth {auth}; add --auth {auth}, or remove {flag}"
        );
    }
    if let Some(url) = &args.webhook_public_url {
        anyhow::ensure!(
            has_webhook_secrets,
            "--webhook-public-url needs the signing secret in CALLINGBOX_WEBHOOK_SECRET or CALLINGBOX_WEBHOOK_SECRET_FILE: without it, no delivery can be verified"
        );
        let path = crate::webhook::PATH;
        anyhow::ensure!(
            url.scheme() == "https"
                && url.username().is_empty()
                && url.password().is_none()
                && ["/", path].contains(&url.path())
                && url.query().is_none()
                && url.fragment().is_none(),
            "--webhook-public-url {}: expected an https URL with a host only; the path {path} is added to it",
            url.origin().ascii_serialization()
        );
    }
    let to_usize = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let sessions = to_usize(args.max_sessions);
    Ok(HttpSettings {
        allowed: host_policy(args, None)?,
        stateless: args.stateless,
        tenants: TenantLimits {
            // Each session may belong to another account.
            tenants: sessions.max(TenantLimits::default().tenants),
            sessions,
            sessions_per_tenant: to_usize(args.max_sessions_per_tenant),
            session_idle: Duration::from_secs(args.session_idle),
            streams_per_tenant: to_usize(args.max_streams_per_tenant),
            requests_per_second: args.requests_per_second,
            ..TenantLimits::default()
        },
        grace: Duration::from_secs(args.grace),
        ..HttpSettings::default()
    })
}

/// The host names that clients may use: the named ones, that of the OAuth resource, and, for webhook deliveries only,
/// that of the public webhook URL.
fn host_policy(args: &HttpArgs, resource: Option<&str>) -> anyhow::Result<HostPolicy> {
    let mut hosts = args.allowed_host.clone();
    hosts.extend(resource.map(str::to_owned));
    let allowed = HostPolicy::new(&hosts, &args.allowed_origin)?;
    let webhooks = args.webhook_public_url.as_ref().and_then(url::Url::host_str);
    Ok(match webhooks {
        None => allowed,
        // A host for deliveries is not therefore a host for tools.
        Some(host) => allowed.with_host_at_path(crate::webhook::PATH, host)?,
    })
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

pub(super) fn token_file_path(
    named: Option<PathBuf>,
    folders: &UserFolders,
) -> anyhow::Result<PathBuf> {
    named.or_else(|| folders.config_file("tokens.toml")).context(
        "the user has no configuration folder for the token file; name a file with --tokens",
    )
}

/// Opens the accounts of callers who bring their own API keys.
struct KeyAccounts {
    accounts: AccountFactory,
    unopened_log: LogThrottle,
    unchecked_log: LogThrottle,
}

impl KeyAccounts {
    fn new(accounts: AccountFactory) -> Self {
        Self {
            accounts,
            unopened_log: LogThrottle::default(),
            unchecked_log: LogThrottle::default(),
        }
    }
}

#[async_trait]
impl AccountOpener for KeyAccounts {
    async fn open_account(&self, key: ApiKey) -> Result<Arc<Account>, KeyCheckError> {
        let account = self.accounts.open_account(key).await.map_err(|error| {
            if let Some(left_out) = self.unopened_log.count_event() {
                tracing::warn!(%error, left_out, "the account of a caller could not be opened; the request is refused");
            }
            KeyCheckError::Unreachable
        })?;
        self.check_account(&account).await.map(|()| Arc::new(account))
    }

    async fn check_account(&self, account: &Account) -> Result<(), KeyCheckError> {
        let api = account.api().map_err(|_| KeyCheckError::Unreachable)?;
        match health::check_key(api).await {
            Ok(()) => Ok(()),
            Err(health::KEY_REFUSED) => Err(KeyCheckError::Refused),
            Err(problem) => {
                if let Some(left_out) = self.unchecked_log.count_event() {
                    tracing::warn!(
                        problem,
                        left_out,
                        "the API key of a caller could not be checked"
                    );
                }
                Err(KeyCheckError::Unreachable)
            }
        }
    }
}

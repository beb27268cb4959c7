//! `callingbox-mcp http`: MCP over HTTP, until it is told to end.

use std::path::PathBuf;
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

use super::output::print;
use super::{oauth, reload, shutdown_signal};
use crate::account::Account;
use crate::cli::{AuthMode, Global, HttpArgs};
use crate::config::{ConfigFile, EnvReader, UserFolders};
use crate::env_var::read_env_var;
use crate::http::answer;
use crate::http::auth::Authenticator;
use crate::http::auth::authenticator::{AccountOpener, ApiKeyAuth, KeyCheckError, StaticTokenAuth};
use crate::http::call_events::CallEvents;
use crate::http::health::{self, Health};
use crate::http::origin::{self, HostPolicy};
use crate::http::tenant::{self, Tenants};
use crate::http::{Service, Settings, guarded};
use crate::mcp::catalogue::Catalogue;
use crate::mcp::registry::selection::Selection;
use crate::runtime::{self, AccountFactory, HttpExtras, Runtime};
use crate::state::SharedState;
use crate::telemetry::metrics::{Exporter, Moment};
use crate::webhook::{Rejection, WebhookReceiver};
use callingbox::ApiKey;
use callingbox::webhook_signature::SigningSecrets;

/// What is said where nothing is.
const NOTHING: &str = "there is nothing here";
/// How often samples are put into their buckets.
const TIDY_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn run(
    options: &HttpArgs,
    global: &Global,
    file: &ConfigFile,
    folders: &UserFolders,
    catalogue: Catalogue,
    selection: Selection,
) -> anyhow::Result<()> {
    let secrets = secrets(&read_env_var)?;
    let mut settings = settings(options, secrets.is_some())?;
    settings.log_arguments = global.logs_arguments(file);
    // A wait without a word must not look like a session that nobody uses.
    let longest = Duration::from_secs(file.wait.max_seconds.saturating_add(60));
    settings.tenants.session_idle = settings.tenants.session_idle.max(longest);
    // Before anything else, so that a signal that comes early is not lost.
    let stop = shutdown_signal::signal()?;
    let hangup = reload::hangup();
    let webhook_url = options
        .webhook_public_url
        .as_ref()
        .map(|url| url.join(crate::webhook::PATH))
        .transpose()?;
    let shared = runtime::open_shared_state(&options.state, file)?;
    settings.shared = shared.clone();
    let more = HttpExtras { webhook_url, shared: shared.clone() };
    let environment = Runtime::open_with(global, file, folders, more.clone()).await?;
    settings.under_way = environment.dispatches();
    let account = environment.account();
    let (catalogue, selection) = (Arc::new(catalogue), Arc::new(selection));
    let mut tokens = None;
    let mut metadata = Router::new();
    let (authenticator, own) = match options.auth {
        AuthMode::None => {
            (Authenticator::Anonymous(Arc::clone(&account)), Some(Arc::clone(&account)))
        }
        AuthMode::Key => (
            Authenticator::ApiKey(ApiKeyAuth::new(Box::new(Keys(environment.account_factory())))),
            None,
        ),
        AuthMode::Token => {
            let path = tokens_path(options.tokens.clone(), folders)?;
            let (account, selection) = (Arc::clone(&account), Arc::clone(&selection));
            let missing = !path.exists();
            let authenticator = StaticTokenAuth::new(
                path,
                Arc::clone(&account),
                catalogue.index().clone(),
                selection,
            );
            let authenticator = if missing {
                authenticator.context("make a token with `callingbox-mcp token create NAME`")?
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
                &options.oauth,
                Arc::clone(&account),
                catalogue.index(),
                selection,
            )?;
            metadata = authenticator.metadata_routes();
            settings.allowed = allowed(options, authenticator.host())?;
            (Authenticator::OAuth(authenticator), Some(account))
        }
    };
    let place = more.ledger(file, account.environment(), folders);
    let health =
        Health::new(own.clone(), place, account.environment()).with_shared_state(shared.clone());
    let allowed = settings.allowed.clone();
    let service = Service::new(settings, catalogue, selection, authenticator, health);

    let listener = bind(options.listen).await?;
    let address = listener.local_addr()?;
    let admin = match options.admin_listen {
        None => None,
        Some(address) => Some(bind(address).await?),
    };
    let state = shared.clone();
    let events = CallEvents::new(own, Arc::clone(service.tenants()), shared.clone());
    let events = Arc::new(events);
    let hearing = tokio::spawn(Arc::clone(&events).receive());
    let webhooks = secrets.map(|secrets| WebhookReceiver::new(secrets, events, shared));
    let hooks = webhooks.as_ref().map_or_else(Router::new, WebhookReceiver::routes).merge(metadata);
    let figures = Exporter::install()?;
    let tidying = tidy(figures.clone());
    let mut probes = service.probes();
    // Beside the others they would be for everyone to read, a proxy's callers among them.
    let by_themselves = options.admin_listen.is_some();
    if by_themselves || options.listen.ip().is_loopback() {
        let tenants = Arc::clone(service.tenants());
        let moment = move || moment(&tenants, webhooks.as_deref(), state.as_ref());
        let metrics = async move |request: Request| {
            if !by_themselves && !origin::is_loopback_request(request.uri(), request.headers()) {
                return answer::error_response(StatusCode::NOT_FOUND, NOTHING);
            }
            let text = "text/plain; version=0.0.4; charset=utf-8";
            ([(http::header::CONTENT_TYPE, text)], figures.render(&moment())).into_response()
        };
        probes = probes.route("/metrics", axum::routing::get(metrics));
    }
    let (public, admin) = match admin {
        None => (service.routes(hooks.merge(probes)), None),
        Some(admin) => {
            let routes = guarded(probes, NOTHING, allowed.with_any_ip_address());
            print(format!("health on http://{}\n", admin.local_addr()?))?;
            (service.routes(hooks), Some((admin, routes)))
        }
    };
    print(format!("listening on http://{address}/mcp\n"))?;
    let tenants = Arc::clone(service.tenants());
    let watching = reload::watch(hangup, environment.account_factory(), tokens, tenants);
    service.serve((listener, public), admin, stop).await;
    for task in [watching, tidying, hearing] {
        task.abort();
    }
    environment.close().await
}

/// Keeps the samples of the figures few.
fn tidy(figures: Exporter) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            figures.tidy();
        }
    })
}

/// What there is at this moment.
fn moment(
    tenants: &Tenants,
    webhooks: Option<&WebhookReceiver>,
    state: Option<&SharedState>,
) -> Moment {
    let all = tenants.all();
    // Tenants may share an account.
    let mut accounts: Vec<&Arc<Account>> = all.iter().map(|tenant| tenant.account()).collect();
    accounts.sort_by_key(|account| Arc::as_ptr(account));
    accounts.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let watched = accounts.iter().filter_map(|account| account.watchers().ok());
    let deliveries = webhooks.map(|webhooks| {
        let counts = webhooks.counts();
        let rejected = Rejection::ALL.map(|reason| (reason.as_str(), counts.rejected(reason)));
        rejected.into_iter().chain([("accepted", counts.accepted())]).collect()
    });
    Moment {
        sessions: tenants.sessions(),
        tenants: all.len(),
        watched: watched.map(|watchers| watchers.watched_calls()).sum(),
        shared_state: state.map(SharedState::is_subscribed),
        deliveries: deliveries.unwrap_or_default(),
    }
}

/// The signing secrets of webhooks, if any are set.
fn secrets(env: EnvReader) -> anyhow::Result<Option<SigningSecrets>> {
    const FILE: &str = "CALLINGBOX_WEBHOOK_SECRET_FILE";
    let text = match (env("CALLINGBOX_WEBHOOK_SECRET")?, env(FILE)?) {
        (Some(text), _) => text,
        (None, Some(path)) => {
            std::fs::read_to_string(&path).with_context(|| format!("{FILE}: {path}"))?
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(SigningSecrets::new(text.split([',', '\n']).map(str::to_owned))?))
}

fn settings(options: &HttpArgs, webhooks: bool) -> anyhow::Result<Settings> {
    let reachable = !options.listen.ip().is_loopback();
    anyhow::ensure!(
        !reachable || options.auth != AuthMode::None || options.unsafe_no_auth,
        "--listen {}: others can reach this address, and without --auth each of them could make calls at your expense; choose --auth key, --auth token or --auth oauth, listen on 127.0.0.1, or say --unsafe-no-auth",
        options.listen
    );
    let (oauth, issuer) = (options.auth == AuthMode::Oauth, &options.oauth);
    for (flag, auth, idle) in [
        ("--oauth-issuer", "oauth", issuer.oauth_issuer.is_some() && !oauth),
        ("--oauth-resource", "oauth", issuer.oauth_resource.is_some() && !oauth),
        ("--oauth-jwks-url", "oauth", issuer.oauth_jwks_url.is_some() && !oauth),
        // An environment may name its tokens whatever its servers ask for, but not where they ask nothing.
        ("--tokens", "token", options.tokens.is_some() && options.auth == AuthMode::None),
    ] {
        anyhow::ensure!(!idle, "{flag} has no effect without --auth {auth}; say both, or neither");
    }
    if let Some(url) = &options.webhook_public_url {
        anyhow::ensure!(
            webhooks,
            "--webhook-public-url needs the signing secret in CALLINGBOX_WEBHOOK_SECRET or CALLINGBOX_WEBHOOK_SECRET_FILE: without it no delivery could be believed"
        );
        let path = crate::webhook::PATH;
        anyhow::ensure!(
            url.scheme() == "https"
                && url.username().is_empty()
                && url.password().is_none()
                && ["/", path].contains(&url.path())
                && url.query().is_none()
                && url.fragment().is_none(),
            "--webhook-public-url {}: give scheme and host alone, with https; deliveries arrive at {path} there",
            url.origin().ascii_serialization()
        );
    }
    let whole = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let sessions = whole(options.max_sessions);
    Ok(Settings {
        allowed: allowed(options, None)?,
        stateless: options.stateless,
        tenants: tenant::Limits {
            // Each session may be of an account of its own.
            tenants: sessions.max(tenant::Limits::default().tenants),
            sessions,
            sessions_per_tenant: whole(options.max_sessions_per_tenant),
            session_idle: Duration::from_secs(options.session_idle),
            streams_per_tenant: whole(options.max_streams_per_tenant),
            requests_per_second: options.requests_per_second,
        },
        grace: Duration::from_secs(options.grace),
        ..Settings::default()
    })
}

/// Under which names the server may be reached: those that were given, that of the resource, and for
/// deliveries alone the one that CallingBox is told.
fn allowed(options: &HttpArgs, resource: Option<&str>) -> anyhow::Result<HostPolicy> {
    let mut hosts = options.allowed_host.clone();
    hosts.extend(resource.map(str::to_owned));
    let allowed = HostPolicy::new(&hosts, &options.allowed_origin)?;
    let webhooks = options.webhook_public_url.as_ref().and_then(url::Url::host_str);
    Ok(match webhooks {
        None => allowed,
        // Whoever may deliver there may not therefore use the tools.
        Some(host) => allowed.with_host_at_path(crate::webhook::PATH, host)?,
    })
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Where the tokens are.
pub(super) fn tokens_path(
    named: Option<PathBuf>,
    folders: &UserFolders,
) -> anyhow::Result<PathBuf> {
    named
        .or_else(|| folders.config_file("tokens.toml"))
        .context("there is no folder for the tokens; name a file with --tokens")
}

/// The accounts of callers who bring their own keys.
struct Keys(AccountFactory);

#[async_trait]
impl AccountOpener for Keys {
    async fn open_account(&self, key: ApiKey) -> Result<Arc<Account>, KeyCheckError> {
        let account = self.0.open_account(key).await.map_err(|error| {
            tracing::warn!(%error, "an account cannot be opened");
            KeyCheckError::Unreachable
        })?;
        let api = account.api().map_err(|_| KeyCheckError::Unreachable)?;
        match health::check_key(api).await {
            Ok(()) => Ok(Arc::new(account)),
            Err(health::KEY_REFUSED) => Err(KeyCheckError::Refused),
            Err(problem) => {
                tracing::warn!(problem, "a caller's key cannot be checked");
                Err(KeyCheckError::Unreachable)
            }
        }
    }
}

//! A server that is stopped (SIGSTOP) between the renewal of its lease and its request does not send the request when it
//! goes on, if another server has dialed meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use callingbox_sandbox::{Options, Sandbox};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use super::harness::{Control, Home, Session, simulator, within_limit};
use super::{LEGACY, data};

const CONFIG: &str = "[dialing]\nconfirm = \"never\"\n";
const POLICY: &str = "mode = \"off\"\n";

/// A connection that waits for its TLS handshake, which this sender lets begin.
type HeldConnection = oneshot::Sender<()>;

/// TLS in front of a simulator. A POST opens a connection of its own, so a request can be held back after everything that
/// precedes it in the client, and before its first byte.
struct TlsFront {
    url: String,
    certificate: String,
    is_holding: Arc<AtomicBool>,
    held: mpsc::Receiver<HeldConnection>,
}

impl TlsFront {
    async fn start(sandbox: &Sandbox) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (sender, held) = mpsc::channel::<HeldConnection>(16);
        let is_holding = Arc::new(AtomicBool::new(false));
        let (holding, simulator) = (Arc::clone(&is_holding), sandbox.address());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                let is_held = holding.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    if is_held {
                        let (release, released) = oneshot::channel();
                        sender.send(release).await.unwrap();
                        let _ = released.await;
                    }
                    let Ok(mut client) = acceptor.accept(stream).await else { return };
                    let mut upstream = TcpStream::connect(simulator).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
                });
            }
        });
        Self { url, certificate: made.cert.pem(), is_holding, held }
    }
}

fn signal(process: u32, name: &str) {
    let status = std::process::Command::new("kill").args([name, &process.to_string()]).status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn a_server_that_was_stopped_before_its_request_does_not_ring_again() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let mut setup = Session::with(LEGACY, &[&format!("--sandbox={}", sandbox.url())], &[]).await;
    let agent = setup.outbound_agent(json!({"answered": "boolean"})).await;
    setup.finish_well().await;
    control.credit(100_000_000).await;

    let mut front = TlsFront::start(&sandbox).await;
    let home = Arc::new(Home::new());
    home.write(".config/callingbox-mcp/config.toml", CONFIG);
    home.write(".config/callingbox-mcp/policy.toml", POLICY);
    home.write("front.pem", &front.certificate);
    let certificate = home.path().join("front.pem");
    let environment = [
        ("CALLINGBOX_API_KEY", callingbox_mcp::simulator::KEY),
        ("CALLINGBOX_BASE_URL", front.url.as_str()),
        ("SSL_CERT_FILE", certificate.to_str().unwrap()),
    ];
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let mut session = Session::start_in(Arc::clone(&home), &[], &environment);
        session.open(LEGACY).await;
        // Loads the certificates.
        session.data("list_agents", json!({})).await;
        sessions.push(session);
    }
    let [stopped, other] = sessions.as_mut_slice() else { panic!() };

    let call = json!({"agent_id": agent, "to": "+12025550123", "instructions": "Remind."});
    front.is_holding.store(true, Ordering::SeqCst);
    let id = stopped.begin_call("place_call", call.clone()).await;
    let file = home.path().join(".local/share/callingbox-mcp/ledger.sqlite3");
    let intents = || {
        let ledger = rusqlite::Connection::open(&file).ok()?;
        let count = "SELECT count(*) FROM dispatch WHERE state = 'intent'";
        ledger.query_row(count, (), |row| row.get::<_, i64>(0)).ok()
    };
    // Of the connections that the server opens, the one after the intent is that of the request.
    let release = loop {
        let release = within_limit("a connection", front.held.recv()).await.unwrap();
        if intents() == Some(1) {
            break release;
        }
        release.send(()).unwrap();
    };
    front.is_holding.store(false, Ordering::SeqCst);
    signal(stopped.process_id(), "-STOP");
    let begun = Instant::now();

    // The lease expires. Another process takes the dispatch over, does not find its call, and dials.
    rusqlite::Connection::open(&file)
        .unwrap()
        .execute_batch(
            "UPDATE dispatch SET in_progress_until = NULL, record = json_set(record, '$.state', 'not_placed', \
             '$.reason', 'searched for and not found', '$.generation', (record ->> '$.generation') + 1)",
        )
        .unwrap();
    let placed = other.data("place_call", call).await;
    assert_eq!(placed.get("duplicate_of"), None, "{placed}");
    assert_eq!(control.dialed().await.len(), 1);

    // A process can only be stopped in real time, and a younger renewal counts as recent.
    tokio::time::sleep(Duration::from_millis(5_200).saturating_sub(begun.elapsed())).await;
    release.send(()).unwrap();
    signal(stopped.process_id(), "-CONT");
    let answer = stopped.answer(id).await;
    assert_eq!(data(&answer)["duplicate_of"], placed["call_id"], "{answer}");
    assert_eq!(control.dialed().await.len(), 1);
}

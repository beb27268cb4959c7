//! The log of the API client. The log subscriber is global to the process.
use std::sync::{Arc, Mutex};

use callingbox::E164;
use callingbox::{AgentId, CallCreate, CallId};
use serde_json::json;

use wire::{KEY, Reply, Server, json as json_reply};

#[expect(dead_code, reason = "this test needs a part of it")]
#[path = "../it/api/wire.rs"]
mod wire;

/// Everything that this crate and its dependencies log at the finest level.
#[tokio::test]
async fn the_log_names_no_key_no_id_and_no_number() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let sink = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || sink.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let refused = json_reply(400, &json!({"error": format!("{KEY} +14155550100 c-secret-id")}));
    let server =
        Server::new(vec![Reply::Reset, json_reply(200, &json!({"id": "x"})), refused]).await;
    let client = server.client();
    let call = CallCreate::new(AgentId::new("a"), E164::parse("+14155550100").unwrap());
    client.get_call(&CallId::new("c-secret-id")).await.unwrap();
    client.place_call(&call).await.unwrap_err();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let ours: Vec<&str> = log.lines().filter(|line| line.contains("API request")).collect();
    for (line, words) in ours.iter().zip([
        [r#"method="GET" path="/v1/calls/{id}" attempt=1"#, "phase=Send"],
        [r#"method="GET" path="/v1/calls/{id}" attempt=2"#, "status=200"],
        [r#"method="POST" path="/v1/calls" attempt=1"#, "status=400"],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
    assert_eq!(ours.len(), 3, "{log}");
    for secret in [KEY, "c-secret-id", "4155550100"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

//! Without the feature: a warning names it, and no trace context is forwarded.

use serde_json::json;
use tokio::process::Command;

use crate::traces::support::{Server, message, program};
use crate::traces::upstream::Upstream;

#[tokio::test]
async fn a_warning_names_the_missing_feature() {
    let (upstream, api) = Upstream::start().await;
    let home = tempfile::tempdir().unwrap();
    let mut program = program(home.path());
    program.env("CALLINGBOX_BASE_URL", api).env("CALLINGBOX_API_KEY", "sk_test");
    program.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    program.stderr(std::process::Stdio::piped());
    let server = Server::run(home, program, &[]).await;
    let list = server.modern("tools/call", json!({"name": "list_agents", "arguments": {}}));
    let list =
        list.header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(message(list.send().await.unwrap()).await["result"]["isError"], false);
    let request = ("GET".to_owned(), "/v1/agents".to_owned(), None, None);
    assert_eq!(upstream.requests(), [request]);

    let id = server.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let output = server.child.wait_with_output().await.unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let warning = "OTEL_EXPORTER_OTLP_ENDPOINT is set, and this program was built without traces: build it with `--features otlp`";
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert!(matches!(warnings[..], [only] if only.contains(warning)), "{log}");
}

//! The probes of a running server, and the command `healthcheck`, which a container runs.

use callingbox_sandbox::Options;
use serde_json::{Value, json};

use crate::harness::{Control, simulator};
use crate::http::support::{Server, program};

#[tokio::test]
async fn healthcheck_succeeds_only_for_a_server_that_answers() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]).await;
    let admin = server.admin.clone().unwrap();
    // A configuration that is invalid by now must not affect the check of a running server.
    let config = server.home.path().join("config/callingbox-mcp/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(config, "nonsense").unwrap();
    let check = async |url: &str| {
        let mut command = program(server.home.path());
        // The check must not use the proxy.
        command.env("HTTP_PROXY", "http://127.0.0.1:1").args(["healthcheck", url]);
        let output = command.output().await.unwrap();
        assert_eq!(output.stdout, b"");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for probe in ["healthz", "readyz"] {
        assert_eq!(check(&format!("{admin}/{probe}")).await, (Some(0), String::new()));
    }
    let (code, text) = check(&format!("{admin}/nothing")).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("/nothing: the server responded 404"), "{text}");
    let (code, text) = check("http://127.0.0.1:1/healthz").await;
    assert_eq!(code, Some(1));
    assert!(text.contains("http://127.0.0.1:1/healthz: the server did not respond"), "{text}");
}

#[tokio::test]
async fn many_probes_cause_one_api_request() {
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let server = Server::start_on(&sandbox, &[]).await;
    let probe = || server.http.get(format!("{}/readyz", server.base)).send();
    for answer in futures::future::join_all((0..50).map(|_| probe())).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(probe().await.unwrap().status(), 200);
    assert_eq!(control.count("GET", "/v1/numbers").await, 1);
}

#[tokio::test]
async fn a_key_is_accepted_whatever_records_the_api_returns() {
    for (body, key) in [
        (json!({"data": [{"uid": "a"}], "has_more": false}), "ok"),
        (json!([{"uid": "a"}]), "ok"),
        // A page of a proxy does not prove that the key is accepted.
        (json!("<html>Welcome</html>"), "CallingBox cannot be reached"),
    ] {
        let sandbox = simulator(Options::default()).await;
        let server = Server::start_on(&sandbox, &["--admin-listen", "127.0.0.1:0"]).await;
        let fault = json!({
            "method": "GET", "path": "/v1/numbers", "kind": "status", "status": 200, "body": body,
            "times": 100,
        });
        Control::new(&sandbox).fault(fault).await;
        let url = format!("{}/readyz", server.admin.as_ref().unwrap());
        let text = server.http.get(url).send().await.unwrap().text().await.unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&report["key"], &report["ready"]),
            (&json!(key), &json!(key == "ok")),
            "{body}"
        );
    }
}

//! The server as an OAuth 2.1 resource server: which tokens it accepts, and what they grant.

use std::time::{Duration, Instant};

use callingbox_mcp::mcp::registry::selection::Selection;
use reqwest::Response;
use serde_json::{Value, json};

use crate::harness::tool_names;
use crate::http::issuer::{Issuer, LEEWAY, RESOURCE};
use crate::http::support::{
    Events, Server, Session, TEST_TIMEOUT, initialize, message, names, with,
};

const METADATA: &str = "https://phone.example/.well-known/oauth-protected-resource/mcp";
const EVERY_SCOPE: &str = "calls:read calls:place agents:write numbers:purchase webhooks:write";

fn challenge(response: &Response) -> String {
    response.headers()["www-authenticate"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_without_a_token_gets_a_challenge_with_the_metadata_url() {
    let issuer = Issuer::start().await;
    let server = issuer.start_server().await;
    let scope = format!("resource_metadata=\"{METADATA}\", scope=\"{EVERY_SCOPE}\"");
    for (method, path) in [
        ("POST", "/mcp"),
        ("GET", "/mcp"),
        ("DELETE", "/mcp"),
        ("GET", "/sse"),
        ("POST", "/messages"),
    ] {
        // A token in the URL is ignored.
        let token = issuer.token("mia", EVERY_SCOPE);
        let url = format!("{}{path}?access_token={token}", server.base);
        let request = || server.http.request(method.parse().unwrap(), &url);
        let refused = request().send().await.unwrap();
        assert_eq!(refused.status(), 401, "{method} {path}");
        assert_eq!(challenge(&refused), format!("Bearer {scope}"));
        let refused = request().bearer_auth("sk_test_one").send().await.unwrap();
        assert_eq!(refused.status(), 401, "{method} {path}");
        assert_eq!(
            challenge(&refused),
            format!(
                "Bearer error=\"invalid_token\", error_description=\"the token is not a signed JWT that this server can check\", {scope}"
            )
        );
    }
    for path in ["", "/mcp", "/sse"] {
        let url = format!("{}/.well-known/oauth-protected-resource{path}", server.base);
        // Clients use the name of the resource as host.
        let response = server.http.get(url).header("host", "phone.example").send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(
            message(response).await,
            json!({
                "resource": RESOURCE,
                "authorization_servers": [issuer.url],
                "scopes_supported": EVERY_SCOPE.split(' ').collect::<Vec<_>>(),
                "bearer_methods_supported": ["header"],
                "resource_name": "CallingBox telephone",
            })
        );
    }
}

#[tokio::test]
async fn only_current_tokens_of_the_issuer_for_this_server_are_accepted() {
    let issuer = Issuer::start().await;
    let server = issuer.start_server().await;
    let other_issuer = Issuer::start().await;
    let valid = issuer.claims("mia", EVERY_SCOPE);
    let now = valid["iat"].as_i64().unwrap();
    let changed = |name: &str, value: Value| {
        let mut claims = valid.clone();
        claims[name] = value;
        issuer.sign(&claims)
    };
    let status = async |token: &str| {
        let asked = with(server.modern("tools/list", json!({})), Some(token));
        asked.send().await.unwrap()
    };
    for token in [
        issuer.sign(&valid),
        changed("aud", json!(["https://other.example", RESOURCE])),
        changed("nbf", json!(now + LEEWAY - 5)),
        changed("exp", json!(now - LEEWAY + 20)),
    ] {
        assert_eq!(status(&token).await.status(), 200);
    }
    let header = |kid: &str| json!({"typ": "at+jwt", "alg": "ES256", "kid": kid});
    for (what, token) in [
        ("another audience", changed("aud", json!("https://phone.example/"))),
        ("another issuer's name", changed("iss", json!(other_issuer.url))),
        ("expired", changed("exp", json!(now - LEEWAY - 1))),
        ("not valid yet", changed("nbf", json!(now + LEEWAY + 20))),
        ("no subject", changed("sub", json!(""))),
        ("no signature", Issuer::unsigned(&valid)),
        ("the public key as a secret", issuer.sign_with_public_key(&valid)),
        ("an unknown key", issuer.sign_as(&header("second"), &valid)),
        ("another issuer's key", other_issuer.sign(&valid)),
        ("an ID token for a client", changed("aud", json!("desk"))),
    ] {
        let refused = status(&token).await;
        assert_eq!(refused.status(), 401, "{what}");
        assert!(challenge(&refused).contains("error=\"invalid_token\""), "{what}");
    }
}

/// A session of the HTTP+SSE transport.
struct SseSession<'a> {
    server: &'a Server,
    events: Events,
    endpoint: String,
}

impl<'a> SseSession<'a> {
    async fn open(server: &'a Server, token: &str) -> Self {
        let stream = server.http.get(format!("{}/sse", server.base)).bearer_auth(token);
        let mut events = Events::new(stream.send().await.unwrap());
        let endpoint = format!("{}{}", server.base, events.next().await.unwrap().1);
        let mut session = Self { server, events, endpoint };
        assert_eq!(session.send(token, &initialize()).await.unwrap()["id"], 0);
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(session.post(token, &ready).await.status(), 202);
        session
    }

    async fn post(&self, token: &str, body: &Value) -> Response {
        let post = self.server.http.post(&self.endpoint).bearer_auth(token).body(body.to_string());
        post.send().await.unwrap()
    }

    async fn send(&mut self, token: &str, body: &Value) -> Result<Value, Response> {
        let response = self.post(token, body).await;
        if response.status() != 202 {
            return Err(response);
        }
        Ok(serde_json::from_str(&self.events.next().await.unwrap().1).unwrap())
    }
}

/// A transport and its session.
enum Connection<'a> {
    Modern(&'a Server),
    Session(Session<'a>),
    Sse(SseSession<'a>),
}

impl<'a> Connection<'a> {
    async fn open_all(server: &'a Server, token: &str) -> [Self; 3] {
        [
            Self::Modern(server),
            Self::Session(server.open(Some(token)).await),
            Self::Sse(SseSession::open(server, token).await),
        ]
    }

    /// The message, or the error response.
    async fn request(
        &mut self,
        token: &str,
        method: &str,
        params: Value,
    ) -> Result<Value, Response> {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        let request = match self {
            Self::Modern(server) => server.modern(method, params).bearer_auth(token),
            Self::Session(session) => {
                session.bearer = Some(token.to_owned());
                session.post(&body)
            }
            Self::Sse(session) => return session.send(token, &body).await,
        };
        let response = request.send().await.unwrap();
        if response.status() == 200 { Ok(message(response).await) } else { Err(response) }
    }
}

#[tokio::test]
async fn each_scope_grants_its_tools_on_every_transport_and_a_missing_one_is_named() {
    let issuer = Issuer::start().await;
    let server = issuer.start_server().await;
    let call = json!({"agent_id": "a", "to": "+13105550100"});
    let reads = tool_names(|tool| {
        tool.effect.is_read_only()
            && Selection::default().active_toolsets().any(|set| set == tool.toolset)
    });
    let none = issuer.token("mia", "openid");
    let mut connections = Connection::open_all(&server, &none).await;
    for connection in &mut connections {
        assert_eq!(
            names(&connection.request(&none, "tools/list", json!({})).await.unwrap()),
            [""; 0]
        );
        for (scope, tools, tool, arguments) in [
            ("calls:read", &reads[..], "list_agents", json!({})),
            (
                "calls:place",
                &[
                    "place_call",
                    "place_calls",
                    "cancel_batch",
                    "record_opt_out",
                    "simulate_inbound_call",
                ],
                "place_call",
                call.clone(),
            ),
            (
                "agents:write",
                &["create_agent", "update_agent", "set_agent_numbers", "archive_agent"],
                "archive_agent",
                json!({"agent_id": "a"}),
            ),
            (
                "numbers:purchase",
                &["purchase_number"],
                "purchase_number",
                json!({"phone_number": "+14155550100"}),
            ),
            ("webhooks:write", &[], "list_webhooks", json!({})),
        ] {
            // The same session, with a token for this scope only, and then for all other scopes.
            let only = issuer.token("mia", scope);
            let offered = names(&connection.request(&only, "tools/list", json!({})).await.unwrap());
            match scope {
                "webhooks:write" => assert!(offered.iter().all(|name| name.contains("webhook"))),
                _ => assert_eq!(offered, tools),
            }
            assert!(offered.contains(&tool.to_owned()), "{offered:?}");
            let params = json!({"name": tool, "arguments": arguments});
            let answer = connection.request(&only, "tools/call", params.clone()).await.unwrap();
            let text = answer["result"]["content"][0]["text"].as_str().unwrap();
            assert!(!text.contains("switched_off"), "{text}");

            let others: Vec<_> = EVERY_SCOPE.split(' ').filter(|other| *other != scope).collect();
            let others = issuer.token("mia", &others.join(" "));
            let refused = connection.request(&others, "tools/call", params).await.unwrap_err();
            assert_eq!(refused.status(), 403, "{tool}");
            assert_eq!(
                challenge(&refused),
                format!(
                    "Bearer error=\"insufficient_scope\", error_description=\"this needs the scope {scope}, which the access token does not have\", resource_metadata=\"{METADATA}\", scope=\"{scope}\""
                )
            );
        }
        for (method, params) in [
            ("resources/read", json!({"uri": "callingbox://numbers"})),
            ("tasks/get", json!({"taskId": "a"})),
        ] {
            let refused = connection.request(&none, method, params).await.unwrap_err();
            assert_eq!(refused.status(), 403, "{method}");
            assert!(challenge(&refused).contains("scope=\"calls:read\""), "{method}");
        }
        let prompts = connection.request(&none, "prompts/list", json!({})).await.unwrap();
        assert!(prompts["result"]["prompts"].is_array());
    }
}

#[tokio::test]
async fn an_ambiguous_message_is_refused_and_has_no_effect() {
    let issuer = Issuer::start().await;
    let server = issuer.start_server().await;
    let (reading, whole) = (issuer.token("mia", "calls:read"), issuer.token("mia", EVERY_SCOPE));
    let session = server.open(Some(&reading)).await;
    let agent = r#"{"name":"create_agent","arguments":{"name":"A","type":"inbound","persona":"Mia.","instructions":"Talk."}}"#;
    let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{agent}}}"#);
    for body in [
        format!("[{message}]"),
        format!(r#"["tools/call",{agent}]"#),
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{agent}}}"#
        ),
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"list_agents"}},"params":{agent}}}"#
        ),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{}}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#.to_owned(),
        format!("{message}{message}"),
        "{".to_owned(),
    ] {
        for request in [
            server.post(&json!({})).bearer_auth(&reading).body(body.clone()),
            session.post(&json!({})).body(body.clone()),
        ] {
            assert_eq!(request.send().await.unwrap().status(), 400, "{body}");
        }
    }
    let agents = server.tool(Some(&whole), "list_agents", json!({})).await;
    assert_eq!(agents["agents"], json!([]));
}

#[tokio::test]
async fn no_other_subject_can_use_the_id_of_a_session() {
    let issuer = Issuer::start().await;
    let server = issuer.start_server().await;
    let mine = issuer.token("mia", "calls:read");
    let session = server.open(Some(&mine)).await;
    let stream = server.http.get(format!("{}/sse", server.base)).bearer_auth(&mine);
    let endpoint = Events::new(stream.send().await.unwrap()).next().await.unwrap().1;
    let mut other_client = issuer.claims("mia", EVERY_SCOPE);
    other_client["client_id"] = json!("kitchen");
    let mut no_client = issuer.claims("mia", EVERY_SCOPE);
    no_client.as_object_mut().unwrap().remove("client_id");
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    for token in
        [issuer.token("noa", EVERY_SCOPE), issuer.sign(&other_client), issuer.sign(&no_client)]
    {
        let url = format!("{}/mcp", server.base);
        for request in [
            server.post(&list),
            server.http.get(&url).header("accept", "text/event-stream"),
            server.http.delete(&url),
        ] {
            let foreign = request.header("mcp-session-id", &session.id).bearer_auth(&token);
            assert_eq!(foreign.send().await.unwrap().status(), 404);
        }
        let foreign = server.http.post(format!("{}{endpoint}", server.base)).bearer_auth(&token);
        assert_eq!(foreign.body(list.to_string()).send().await.unwrap().status(), 404);
    }
    // The same subject continues the session with a new token.
    let renewed = Session {
        server: &server,
        id: session.id.clone(),
        bearer: Some(issuer.token("mia", "calls:place")),
    };
    assert_eq!(
        renewed.tools().await,
        ["place_call", "place_calls", "cancel_batch", "record_opt_out", "simulate_inbound_call"]
    );
}

#[tokio::test]
async fn a_session_and_its_streams_end_when_the_token_expires() {
    let issuer = Issuer::start().await;
    let server = issuer.start_server().await;
    let call_id = server.long_call_of(Some(&issuer.token("mia", EVERY_SCOPE))).await;
    let short = issuer.short_token("mia", 6);
    let session = server.open(Some(&short)).await;
    let stream =
        server.http.get(format!("{}/mcp", server.base)).header("accept", "text/event-stream");
    let stream =
        stream.header("mcp-session-id", &session.id).bearer_auth(&short).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let sse =
        server.http.get(format!("{}/sse", server.base)).bearer_auth(&short).send().await.unwrap();
    assert_eq!(sse.status(), 200);
    let filter = json!({"notifications": {"resourceSubscriptions": ["callingbox://numbers"]}});
    let listening =
        server.modern("subscriptions/listen", filter).bearer_auth(&short).send().await.unwrap();
    assert_eq!(listening.status(), 200);
    let wait = json!({
        "name": "get_call_result",
        "arguments": {"call_id": call_id, "wait_seconds": 60},
        "_meta": {"progressToken": "p"},
    });
    let following = server.modern("tools/call", wait).bearer_auth(&short).send().await.unwrap();
    assert!(following.headers()["content-type"].to_str().unwrap().contains("event-stream"));
    // The sessions of another subject, and one renewed with a longer token, stay open.
    let lasting = server.open(Some(&issuer.token("noa", "calls:read"))).await;
    let kept = server.open(Some(&issuer.short_token("mia", 6))).await;
    let kept = Session {
        server: &server,
        id: kept.id.clone(),
        bearer: Some(issuer.token("mia", "calls:read")),
    };
    assert!(!kept.tools().await.is_empty());

    let begun = Instant::now();
    for open in [stream, sse, listening, following] {
        tokio::time::timeout(TEST_TIMEOUT, open.bytes()).await.unwrap().unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(session.request("tools/list", json!({})).await.status(), 401);
    let again = Session {
        server: &server,
        id: session.id.clone(),
        bearer: Some(issuer.token("mia", "calls:read")),
    };
    assert_eq!(again.request("tools/list", json!({})).await.status(), 404);
    assert!(!lasting.tools().await.is_empty() && !kept.tools().await.is_empty());
}

#[tokio::test]
async fn the_issuer_can_rotate_its_keys_and_be_down() {
    let issuer = Issuer::start().await;
    let server = issuer.start_server().await;
    let claims = issuer.claims("mia", EVERY_SCOPE);
    let second =
        issuer.sign_as(&json!({"typ": "at+jwt", "alg": "ES256", "kid": "second"}), &claims);
    let first = issuer.sign(&claims);
    let status = async |token: &str| {
        let asked = server.modern("tools/list", json!({})).bearer_auth(token);
        asked.send().await.unwrap().status().as_u16()
    };
    assert_eq!((status(&first).await, status(&second).await), (200, 401));
    issuer.go_down();
    assert_eq!(status(&first).await, 200);
    assert_eq!(readiness(&server).await, (200, json!("ok")));
    issuer.publish_key(&["second"]);
    let begun = Instant::now();
    while status(&second).await != 200 {
        assert!(begun.elapsed() < TEST_TIMEOUT);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(status(&first).await, 401);

    // An issuer that was never reached.
    let unreachable = Issuer::start().await;
    unreachable.go_down();
    let server = unreachable.start_server().await;
    let asked =
        server.modern("tools/list", json!({})).bearer_auth(unreachable.token("mia", EVERY_SCOPE));
    let refused = asked.send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(readiness(&server).await, (503, json!("its keys cannot be fetched")));
}

/// The status of `/readyz`, and its field for the issuer.
async fn readiness(server: &Server) -> (u16, Value) {
    let answer = server.http.get(format!("{}/readyz", server.base)).send().await.unwrap();
    let status = answer.status().as_u16();
    let report: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    (status, report["issuer"].clone())
}

#[tokio::test]
async fn unsafe_or_missing_addresses_are_refused_at_startup() {
    let home = tempfile::tempdir().unwrap();
    for (issuer, resource, problem) in [
        (None, Some(RESOURCE), "--oauth-issuer"),
        (Some("https://issuer.example"), None, "--oauth-resource"),
        (
            Some("http://issuer.example"),
            Some(RESOURCE),
            "--oauth-issuer http://issuer.example: give an https address",
        ),
        (
            Some("https://issuer.example"),
            Some("phone.example"),
            "--oauth-resource phone.example: give an https address",
        ),
    ] {
        let mut program = crate::http::support::program(home.path());
        program.args(["--sandbox", "http", "--listen", "127.0.0.1:0", "--auth", "oauth"]);
        program.args(issuer.into_iter().flat_map(|url| ["--oauth-issuer", url]));
        program.args(resource.into_iter().flat_map(|url| ["--oauth-resource", url]));
        let output = program.output().await.unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(problem), "{text}");
    }
}

#[tokio::test]
async fn an_option_of_another_authentication_is_refused() {
    let home = tempfile::tempdir().unwrap();
    for (flag, value, auth) in [
        ("--oauth-issuer", "https://issuer.example", "--auth oauth"),
        ("--oauth-resource", RESOURCE, "--auth oauth"),
        ("--oauth-jwks-url", "https://issuer.example/keys", "--auth oauth"),
        ("--tokens", "tokens.toml", "--auth token"),
    ] {
        let mut program = crate::http::support::program(home.path());
        program.args(["--sandbox", "http", "--listen", "127.0.0.1:0", flag, value]);
        let ended = tokio::time::timeout(TEST_TIMEOUT, program.output()).await;
        let output = ended.unwrap_or_else(|_| panic!("the server started: {flag}")).unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let says = format!("{flag} has no effect without {auth}");
        assert!(!output.status.success() && text.contains(&says), "{text}");
    }
}

//! Batches whose clocks disagree or cannot be read: nobody is called until they agree for a minute.

use std::sync::Arc;

use callingbox_sandbox::Options;
use serde_json::{Value, json};

use super::machine_clock::MachineClock;
use super::scene::{CLOCK, Scene, Starter};
use crate::harness::{Control, Era, Home, Session, simulator};

/// Requests the report until it is in this state. Each request wakes the server, whose clock goes on by five seconds before it.
async fn wait_for(
    session: &mut Session,
    batch: &Value,
    state: &str,
    machine: &MachineClock,
) -> Value {
    let mut report = Value::Null;
    for _ in 0..40 {
        report = session.data("get_batch", json!({"batch_id": batch})).await;
        if report["state"] == state {
            return report;
        }
        machine.pass(5);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the batch is not {state}: {report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_pauses_while_the_clock_is_not_that_of_callingbox() {
    // A live account, whose API is the simulator.
    let sandbox = simulator(Options::default()).await;
    let control = Control::new(&sandbox);
    let home = Arc::new(Home::new());
    home.write(".config/callingbox-mcp/policy.toml", "mode = \"off\"\n");
    let machine = MachineClock::new();
    let clock = machine.environment();
    let environment = [
        ("CALLINGBOX_API_KEY", callingbox_mcp::simulator::KEY),
        ("CALLINGBOX_BASE_URL", &sandbox.url()),
        (clock[0].0, &clock[0].1),
        (clock[1].0, &clock[1].1),
    ];
    let mut setup =
        Session::start_in(Arc::clone(&home), &[&format!("--sandbox={}", sandbox.url())], &[]);
    setup.open(Era::Modern).await;
    let agent = setup.outbound_agent(json!({})).await;
    setup.finish_well().await;
    control.credit(100_000_000).await;

    // It was slow before the server started, so that no jump is seen.
    machine.jump(-180);
    let mut session = Session::start_in(home, &[], &environment);
    session.open(Era::Modern).await;
    let people = json!([{"to": "+14155550100"}, {"to": "+12125550100"}]);
    let shown = session.data("place_calls", json!({"agent_id": agent, "people": people})).await;
    let batch = shown["batch_id"].clone();
    let yes = json!({"batch_id": batch, "confirmation_token": shown["confirmation_token"]});
    session.data("place_calls", yes).await;
    let paused = wait_for(&mut session, &batch, "paused", &machine).await;
    let note = paused["note"].as_str().unwrap();
    assert!(note.starts_with("paused (the clock of this machine jumped"), "{paused}");
    assert_eq!(control.dialed().await.len(), 0);

    // It catches up by five seconds with each request.
    wait_for(&mut session, &batch, "running", &machine).await;
    control.wait_for_requests("POST", "/v1/calls", 2).await;
    assert_eq!(control.dialed().await.len(), 2);
    let (_, log) = session.close().await;
    assert!(log.contains("a batch starts no calls for now"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_pauses_while_the_clock_of_the_simulator_cannot_be_read() {
    let mut scene = Scene::new().await;
    let batch = scene.start(Starter::Server).await;
    scene.hold(CLOCK);
    let gate = Arc::clone(&scene.gate);
    let cutting = tokio::spawn(async move {
        loop {
            gate.next().await.cut();
        }
    });
    let paused = wait_for(&mut scene.second, &json!(batch), "paused", &scene.machine).await;
    let note = paused["note"].as_str().unwrap();
    assert!(note.starts_with("paused (the clock of this machine jumped"), "{paused}");
    let call = json!({"agent_id": scene.agent, "to": "+13055550100"});
    let refused = scene.first.failure("place_call", call).await;
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("the simulator's clock cannot be read"), "{refused}");
    scene.control.advance(3_600).await;
    wait_for(&mut scene.second, &json!(batch), "paused", &scene.machine).await;
    assert_eq!(scene.control.dialed().await.len(), 0);
    cutting.abort();
    let _ = cutting.await;
    scene.gate.hold(None);
    wait_for(&mut scene.second, &json!(batch), "running", &scene.machine).await;
    let report = scene.run_to_end("", &batch).await;
    assert_eq!(report["state"], "ended", "{report}");
    assert_eq!(scene.check(&batch).await, 7, "{report}");
}

//! Names that are unique among replicas. rmcp numbers the questions of a session, and the events of
//! its streams, from zero, and does so anew in each replica that takes the session up: an answer to
//! question 0 of one would pass for an answer to question 0 of another. So on their way out both get
//! the mark of the instance that they come from, and on their way in only that instance takes them.
//!
//! **A human's yes reaches the question that it was given to, or none.**

use std::fmt;
use std::sync::Arc;

use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, RequestId, ServerNotification};
use rmcp::transport::common::server_side_http::ServerSseMessage;

use crate::state::ReplicaId;

/// The longest id that is looked at.
const MOST_BYTES: usize = 128;

/// A session as one replica has it, from when it was opened or taken up there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    replica: ReplicaId,
    /// Unguessable: who was not asked cannot answer.
    secret: u128,
}

/// Where a message of a client belongs.
pub enum Way {
    /// To this instance, as rmcp knows it.
    Here(Box<ClientJsonRpcMessage>),
    /// To the replica that asked the question.
    There(ReplicaId, Box<ClientJsonRpcMessage>),
    /// Nowhere: it answers nothing that was asked.
    Nowhere,
}

impl Instance {
    /// One more, of this replica.
    #[must_use]
    pub fn new(replica: ReplicaId) -> Self {
        Self { replica, secret: rand::random() }
    }

    fn mark(&self, id: &RequestId) -> RequestId {
        RequestId::String(format!("{self}-{id}").into())
    }

    /// The id that this instance gave, if it did.
    fn unmark(&self, id: &str) -> Option<RequestId> {
        let number = id.strip_prefix(&self.to_string())?.strip_prefix('-')?;
        number.parse().ok().map(RequestId::Number)
    }

    /// An event of this instance, for the client.
    #[must_use]
    pub fn outgoing(&self, mut event: ServerSseMessage) -> ServerSseMessage {
        event.event_id = event.event_id.map(|id| format!("{self}-{id}"));
        if let Some(message) = event.message.take() {
            let marked = match message.as_ref() {
                JsonRpcMessage::Request(request) => {
                    let mut request = request.clone();
                    request.id = self.mark(&request.id);
                    Some(JsonRpcMessage::Request(request))
                }
                JsonRpcMessage::Notification(notification) => {
                    let mut notification = notification.clone();
                    match &mut notification.notification {
                        // A server takes back only its own questions.
                        ServerNotification::CancelledNotification(canceled) => {
                            canceled.params.request_id =
                                canceled.params.request_id.as_ref().map(|id| self.mark(id));
                            Some(JsonRpcMessage::Notification(notification))
                        }
                        _ => None,
                    }
                }
                JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => None,
            };
            event.message = Some(marked.map_or(message, Arc::new));
        }
        event
    }

    /// The event after which a client goes on, as rmcp knows it; none if it is not of this instance.
    /// `0` is what every stream begins with.
    #[must_use]
    pub fn resumed<'a>(&self, event_id: &'a str) -> Option<&'a str> {
        if event_id == "0" {
            return Some(event_id);
        }
        event_id.strip_prefix(&self.to_string())?.strip_prefix('-')
    }

    /// Where an answer belongs; everything else belongs here.
    #[must_use]
    pub fn way(&self, mut message: ClientJsonRpcMessage) -> Way {
        let id = match &mut message {
            JsonRpcMessage::Response(response) => Some(&mut response.id),
            JsonRpcMessage::Error(error) => match &mut error.id {
                Some(id) => Some(id),
                None => return Way::Nowhere,
            },
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let Some(id) = id else { return Way::Here(Box::new(message)) };
        let RequestId::String(text) = &*id else { return Way::Nowhere };
        if text.len() > MOST_BYTES {
            return Way::Nowhere;
        }
        if let Some(ours) = self.unmark(text) {
            *id = ours;
            return Way::Here(Box::new(message));
        }
        let asked = text.split_once('-').and_then(|(replica, _)| replica.parse().ok());
        match asked {
            Some(replica) if replica != self.replica => Way::There(replica, Box::new(message)),
            _ => Way::Nowhere,
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:032x}", self.replica, self.secret)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({}-…)", self.replica)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn replica(number: u64) -> ReplicaId {
        format!("{number:016x}").parse().unwrap()
    }

    fn event(message: Value) -> ServerSseMessage {
        ServerSseMessage::new("3/7", serde_json::from_value(message).unwrap())
    }

    fn question(id: i64) -> ServerSseMessage {
        event(json!({"jsonrpc": "2.0", "id": id, "method": "ping"}))
    }

    fn id_of(event: &ServerSseMessage) -> Value {
        serde_json::to_value(event.message.as_deref().unwrap()).unwrap()["id"].clone()
    }

    fn yes(id: &Value) -> Value {
        let content = json!({"action": "accept", "content": {"confirm": true}});
        json!({"jsonrpc": "2.0", "id": id, "result": content})
    }

    /// Where a message goes, and as what.
    fn way(instance: &Instance, message: Value) -> (String, Value) {
        let shown = |message: &ClientJsonRpcMessage| serde_json::to_value(message).unwrap();
        match instance.way(serde_json::from_value(message).unwrap()) {
            Way::Here(message) => ("here".to_owned(), shown(&message)),
            Way::There(replica, message) => (replica.to_string(), shown(&message)),
            Way::Nowhere => ("nowhere".to_owned(), Value::Null),
        }
    }

    fn here(message: Value) -> (String, Value) {
        ("here".to_owned(), message)
    }

    #[test]
    fn a_yes_reaches_the_question_it_was_given_to_or_none() {
        let asker = Instance::new(replica(1));
        let other = Instance::new(replica(2));
        let taken_up_again = Instance::new(replica(1));
        let asked = id_of(&asker.outgoing(question(0)));
        let also_asked = id_of(&other.outgoing(question(0)));
        assert_ne!(asked, also_asked);
        let nowhere = ("nowhere".to_owned(), Value::Null);
        assert_eq!(way(&asker, yes(&asked)), here(yes(&json!(0))));
        assert_eq!(way(&other, yes(&asked)), (replica(1).to_string(), yes(&asked)));
        // The same replica has forgotten the session meanwhile: its new question 0 is another one.
        assert_eq!(way(&taken_up_again, yes(&asked)), nowhere);
        let prefix = asked.as_str().unwrap().strip_suffix("-0").unwrap().to_owned();
        for id in [
            json!(0),
            json!("0"),
            json!(""),
            json!(prefix),
            json!(format!("{prefix}-")),
            json!(format!("{prefix}-0x")),
            json!(format!("{prefix}-0-0")),
            json!(format!("{}-{:032x}-0", replica(1), 0)),
            json!(format!("{}-{}", replica(1), "0".repeat(200))),
        ] {
            assert_eq!(way(&asker, yes(&id)), nowhere, "{id}");
        }
        let refusal = |id: &Value| json!({"jsonrpc": "2.0", "id": id, "error": {"code": -1, "message": "no"}});
        assert_eq!(way(&asker, refusal(&asked)), here(refusal(&json!(0))));
        assert_eq!(way(&asker, refusal(&Value::Null)), nowhere);
    }

    #[test]
    fn answers_keep_their_ids_and_a_question_is_taken_back_by_its_mark() {
        let instance = Instance::new(replica(1));
        let answer = event(json!({"jsonrpc": "2.0", "id": 5, "result": {}}));
        assert_eq!(id_of(&instance.outgoing(answer)), json!(5));
        let canceled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 0}});
        let canceled = instance.outgoing(event(canceled));
        let canceled = serde_json::to_value(canceled.message.as_deref().unwrap()).unwrap();
        assert_eq!(canceled["params"]["requestId"], id_of(&instance.outgoing(question(0))));
        let request = json!({"jsonrpc": "2.0", "id": 0, "method": "tools/list", "params": {}});
        assert_eq!(way(&instance, request.clone()), here(request));
    }

    #[test]
    fn a_stream_is_resumed_where_it_was_alone() {
        let (instance, other) = (Instance::new(replica(1)), Instance::new(replica(2)));
        let id = instance.outgoing(question(0)).event_id.unwrap();
        assert_eq!(instance.resumed(&id), Some("3/7"));
        assert_eq!(other.resumed(&id), None);
        assert_eq!(other.resumed("3/7"), None);
        assert_eq!(other.resumed("0"), Some("0"));
    }
}

//! A transport that cancels the unanswered requests of a client when its session ends, as the client could have done
//! itself. Otherwise rmcp would wait up to five seconds for them and log an error. Knows nothing about HTTP.

use std::collections::HashSet;

use rmcp::RoleServer;
use rmcp::model::{
    CancelledNotification, CancelledNotificationParam, ClientJsonRpcMessage, ClientNotification,
    JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;

pub struct CancelOnClose<T> {
    inner: T,
    unanswered: HashSet<RequestId>,
    closed: bool,
}

impl<T> CancelOnClose<T> {
    pub fn new(inner: T) -> Self {
        Self { inner, unanswered: HashSet::new(), closed: false }
    }

    fn track_message(&mut self, message: &ClientJsonRpcMessage) {
        if let JsonRpcMessage::Request(request) = message {
            self.unanswered.insert(request.id.clone());
        } else if let Some(id) = cancelled_request_id(message) {
            self.unanswered.remove(id);
        }
    }
}

/// The request that this message cancels. rmcp never answers it.
#[must_use]
pub fn cancelled_request_id(message: &ClientJsonRpcMessage) -> Option<&RequestId> {
    match message {
        JsonRpcMessage::Notification(notification) => match &notification.notification {
            ClientNotification::CancelledNotification(cancelled) => {
                cancelled.params.request_id.as_ref()
            }
            _ => None,
        },
        JsonRpcMessage::Request(_) | JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => None,
    }
}

/// The request that this message answers.
#[must_use]
pub fn answered_request_id(message: &ServerJsonRpcMessage) -> Option<&RequestId> {
    match message {
        JsonRpcMessage::Response(response) => Some(&response.id),
        JsonRpcMessage::Error(error) => error.id.as_ref(),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
    }
}

fn cancellation(id: RequestId) -> ClientJsonRpcMessage {
    let params = CancelledNotificationParam::new(Some(id), None);
    let cancelled = CancelledNotification::new(params);
    ClientJsonRpcMessage::notification(ClientNotification::CancelledNotification(cancelled))
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for CancelOnClose<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        if let Some(id) = answered_request_id(&message) {
            self.unanswered.remove(id);
        }
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        if !self.closed {
            if let Some(message) = self.inner.receive().await {
                self.track_message(&message);
                return Some(message);
            }
            self.closed = true;
        }
        let id = self.unanswered.iter().next().cloned()?;
        self.unanswered.remove(&id);
        Some(cancellation(id))
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.inner.close().await
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use rmcp::model::{ClientRequest, PingRequest, ServerResult};

    use super::*;

    /// Receives these messages and accepts any.
    struct ScriptedTransport(std::vec::IntoIter<ClientJsonRpcMessage>);

    impl Transport<RoleServer> for ScriptedTransport {
        type Error = Infallible;

        fn send(
            &mut self,
            _: ServerJsonRpcMessage,
        ) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
            std::future::ready(Ok(()))
        }

        async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
            self.0.next()
        }

        async fn close(&mut self) -> Result<(), Infallible> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn at_the_end_each_unanswered_request_is_cancelled_once() {
        let ping = |id| {
            let ping = ClientRequest::PingRequest(PingRequest::default());
            ClientJsonRpcMessage::request(ping, RequestId::Number(id))
        };
        let script = vec![ping(1), ping(2), ping(3), cancellation(RequestId::Number(2))];
        let mut transport = CancelOnClose::new(ScriptedTransport(script.into_iter()));
        for _ in 0..4 {
            transport.receive().await.unwrap();
        }
        let response =
            ServerJsonRpcMessage::response(ServerResult::empty(()), RequestId::Number(3));
        transport.send(response).await.unwrap();
        let message = serde_json::to_value(transport.receive().await.unwrap()).unwrap();
        assert_eq!(message, serde_json::to_value(cancellation(RequestId::Number(1))).unwrap());
        assert!(transport.receive().await.is_none());
    }
}

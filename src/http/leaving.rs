//! What a client that ends its session leaves behind: the requests that nobody wants answered any more
//! are taken back, as the client could have done itself. rmcp would wait for them, up to five
//! seconds, and complain. Knows messages, nothing of HTTP.

use std::collections::HashSet;

use rmcp::RoleServer;
use rmcp::model::{
    CancelledNotification, CancelledNotificationParam, ClientJsonRpcMessage, ClientNotification,
    JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;

/// A transport whose end takes back what is unanswered.
pub struct Leaving<T> {
    inner: T,
    unanswered: HashSet<RequestId>,
    ended: bool,
}

impl<T> Leaving<T> {
    /// This transport, at its beginning.
    pub fn new(inner: T) -> Self {
        Self { inner, unanswered: HashSet::new(), ended: false }
    }

    fn note(&mut self, message: &ClientJsonRpcMessage) {
        if let JsonRpcMessage::Request(request) = message {
            self.unanswered.insert(request.id.clone());
        } else if let Some(id) = taken_back(message) {
            self.unanswered.remove(id);
        }
    }
}

/// The request that a client takes back by this message; rmcp never answers it then.
#[must_use]
pub fn taken_back(message: &ClientJsonRpcMessage) -> Option<&RequestId> {
    match message {
        JsonRpcMessage::Notification(notification) => match &notification.notification {
            ClientNotification::CancelledNotification(canceled) => {
                canceled.params.request_id.as_ref()
            }
            _ => None,
        },
        JsonRpcMessage::Request(_) | JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => None,
    }
}

/// The request that this message answers.
#[must_use]
pub fn answered(message: &ServerJsonRpcMessage) -> Option<&RequestId> {
    match message {
        JsonRpcMessage::Response(response) => Some(&response.id),
        JsonRpcMessage::Error(error) => error.id.as_ref(),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Leaving<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        if let Some(id) = answered(&message) {
            self.unanswered.remove(id);
        }
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        if !self.ended {
            if let Some(message) = self.inner.receive().await {
                self.note(&message);
                return Some(message);
            }
            self.ended = true;
        }
        let id = self.unanswered.iter().next().cloned()?;
        self.unanswered.remove(&id);
        let params = CancelledNotificationParam::new(Some(id), None);
        let canceled = CancelledNotification::new(params);
        Some(ClientJsonRpcMessage::notification(ClientNotification::CancelledNotification(
            canceled,
        )))
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

    /// Gives these messages, and takes any.
    struct Script(std::vec::IntoIter<ClientJsonRpcMessage>);

    impl Transport<RoleServer> for Script {
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

    fn canceled(id: i64) -> ClientJsonRpcMessage {
        let params = CancelledNotificationParam::new(Some(RequestId::Number(id)), None);
        let canceled = CancelledNotification::new(params);
        ClientJsonRpcMessage::notification(ClientNotification::CancelledNotification(canceled))
    }

    #[tokio::test]
    async fn at_the_end_what_is_neither_answered_nor_taken_back_is_taken_back() {
        let ask = |id| {
            let ping = ClientRequest::PingRequest(PingRequest::default());
            ClientJsonRpcMessage::request(ping, RequestId::Number(id))
        };
        let script = vec![ask(1), ask(2), ask(3), canceled(2)];
        let mut transport = Leaving::new(Script(script.into_iter()));
        for _ in 0..4 {
            transport.receive().await.unwrap();
        }
        let answer = ServerJsonRpcMessage::response(ServerResult::empty(()), RequestId::Number(3));
        transport.send(answer).await.unwrap();
        let taken_back = serde_json::to_value(transport.receive().await.unwrap()).unwrap();
        assert_eq!(taken_back, serde_json::to_value(canceled(1)).unwrap());
        assert!(transport.receive().await.is_none());
    }
}

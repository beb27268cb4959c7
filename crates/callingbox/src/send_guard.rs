//! A check right before the body of a request is written, when the connection is open. A request whose body is withheld is
//! incomplete, so no server carries it out. Knows no operations.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

type Check = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Decides at the last moment whether a request may be sent. Clones share the check.
#[derive(Clone)]
pub struct SendGuard(Arc<dyn Fn() -> Check + Send + Sync>);

impl SendGuard {
    /// The check runs once for each attempt. `false` withholds the request.
    pub fn new(check: impl Fn() -> Check + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }
}

impl fmt::Debug for SendGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendGuard")
    }
}

/// A body that is written only if the guard agrees.
pub(crate) struct GuardedBody {
    guard: SendGuard,
    /// The check, once the body is polled. The mutex makes the body `Sync`; it is never contended.
    check: Mutex<Option<Check>>,
    bytes: Option<Bytes>,
    withheld: Arc<AtomicBool>,
}

impl GuardedBody {
    /// `withheld` is set if the guard does not agree.
    pub(crate) fn new(bytes: Bytes, guard: SendGuard, withheld: Arc<AtomicBool>) -> Self {
        Self { guard, check: Mutex::default(), bytes: Some(bytes), withheld }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request was withheld")]
pub(crate) struct WithheldBody;

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = WithheldBody;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WithheldBody>>> {
        let this = self.get_mut();
        if this.bytes.is_none() {
            return Poll::Ready(None);
        }
        let check = this.check.get_mut().unwrap_or_else(PoisonError::into_inner);
        let may_send = ready!(check.get_or_insert_with(|| (this.guard.0)()).as_mut().poll(context));
        let bytes = this.bytes.take();
        if may_send {
            return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
        }
        this.withheld.store(true, Ordering::Release);
        Poll::Ready(Some(Err(WithheldBody)))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}

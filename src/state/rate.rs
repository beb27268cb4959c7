//! How many requests in a second, counted over all replicas.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::{Gone, Scope, Shared};

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("rate.lua")));

/// What came of counting a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It may go on, and there is room for so many more at once.
    Room(u32),
    /// There were too many; how long to wait.
    TooMany(Duration),
}

impl Shared {
    /// Counts a request of this scope, of at most `per_second` on average and `burst` at once.
    ///
    /// # Errors
    /// It cannot be counted now; nobody waits long to learn that.
    pub async fn count_request(
        &self,
        scope: &Scope,
        per_second: NonZeroU32,
        burst: NonZeroU32,
    ) -> Result<Counted, Gone> {
        let interval = 1_000_000 / u64::from(per_second.get());
        let ahead = interval.max(1).saturating_mul(u64::from(burst.get()));
        let mut link = self.link();
        let mut script = SCRIPT.key(scope.key("rate"));
        script.arg(interval.max(1)).arg(ahead);
        let (wait, room): (u64, u32) = self.briefly(script.invoke_async(&mut link)).await?;
        Ok(match wait {
            0 => Counted::Room(room),
            _ => Counted::TooMany(Duration::from_micros(wait)),
        })
    }
}

//! What has been seen by any replica.

use std::time::Duration;

use redis::{ExistenceCheck, SetExpiry, SetOptions};

use super::{Gone, LONG, PREFIX, Shared, half, within};

impl Shared {
    /// Whether nobody has seen this before; from now on, and for so long, somebody has.
    ///
    /// # Errors
    /// It cannot be learned now.
    pub async fn is_new(&self, hash: &[u8; 32], keep: Duration) -> Result<bool, Gone> {
        let options = SetOptions::default()
            .conditional_set(ExistenceCheck::NX)
            .with_expiration(SetExpiry::EX(keep.as_secs().max(1)));
        let key = format!("{PREFIX}:seen:{}", half(hash));
        let mut link = self.link();
        let set = redis::AsyncCommands::set_options(&mut link, key, 1, options);
        let set: Option<String> = within(LONG, set).await?;
        Ok(set.is_some())
    }
}

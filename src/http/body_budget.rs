//! How many bytes of request bodies may be in memory at the same time: of one tenant, and of all together. A body counts
//! from its first byte until its request has been answered. Knows nothing about requests.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget of one tenant, and that of the server, which all tenants share.
#[derive(Debug, Clone)]
pub struct BodyBudget {
    tenant: Arc<Semaphore>,
    server: Arc<Semaphore>,
}

/// Bytes of one body, which are returned to the budget when this is dropped.
#[derive(Debug, Default)]
pub struct BodyBytes(Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>);

/// No more bytes can be held at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyBudgetExceeded {
    #[error("the requests of this account that are in progress are too large together; try again")]
    Tenant,
    #[error("the requests in progress are too large together for this server; try again")]
    Server,
}

impl BodyBudget {
    /// The budget of a tenant, which may hold this many bytes.
    #[must_use]
    pub fn new(tenant_bytes: usize, server: Arc<Semaphore>) -> Self {
        Self { tenant: Arc::new(Semaphore::new(tenant_bytes)), server }
    }

    /// Adds bytes to those of a body.
    ///
    /// # Errors
    /// The budget of the tenant or that of the server is used up.
    pub fn extend(&self, held: &mut BodyBytes, bytes: usize) -> Result<(), BodyBudgetExceeded> {
        let acquire = |semaphore: &Arc<Semaphore>, exceeded| {
            let bytes = u32::try_from(bytes).map_err(|_| exceeded)?;
            Arc::clone(semaphore).try_acquire_many_owned(bytes).map_err(|_| exceeded)
        };
        let tenant = acquire(&self.tenant, BodyBudgetExceeded::Tenant)?;
        let server = acquire(&self.server, BodyBudgetExceeded::Server)?;
        match &mut held.0 {
            Some((held_tenant, held_server)) => {
                held_tenant.merge(tenant);
                held_server.merge(server);
            }
            None => held.0 = Some((tenant, server)),
        }
        Ok(())
    }
}

impl BodyBytes {
    /// Returns the bytes that were not kept.
    pub fn shrink_to(&mut self, kept: usize) {
        if let Some((tenant, server)) = &mut self.0 {
            for permit in [tenant, server] {
                // The split part is dropped.
                drop(permit.split(permit.num_permits().saturating_sub(kept)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_cannot_use_the_budget_of_another_and_bytes_are_returned() {
        let server = Arc::new(Semaphore::new(25));
        let [one, other] = [10, 20].map(|bytes| BodyBudget::new(bytes, Arc::clone(&server)));
        let (mut first, mut second, mut third) = Default::default();
        assert_eq!(one.extend(&mut first, 6), Ok(()));
        assert_eq!(one.extend(&mut first, 4), Ok(()));
        assert_eq!(one.extend(&mut second, 1), Err(BodyBudgetExceeded::Tenant));
        assert_eq!(other.extend(&mut third, 16), Err(BodyBudgetExceeded::Server));
        assert_eq!(other.extend(&mut third, 15), Ok(()));
        first.shrink_to(2);
        assert_eq!(server.available_permits(), 8);
        assert_eq!(one.extend(&mut second, 8), Ok(()));
        drop((first, second, third));
        assert_eq!((server.available_permits(), one.tenant.available_permits()), (25, 10));
    }
}

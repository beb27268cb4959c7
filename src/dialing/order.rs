//! What is to be done: a call or a purchase, and what makes two orders the same.

use serde_json::{Map, Value, json};

use super::ledger::{Callee, DispatchId, Fingerprint, IdempotencyKey, Tenant, TenantId};
use super::limits::Kind;
use callingbox::e164::E164;
use callingbox::money::MilliCents;
use callingbox::{Call, CallCreate, PhoneNumber};

/// The member of a call's `metadata` that carries the dispatch id. Reserved: no caller may set it.
pub const DISPATCH_KEY: &str = "callingbox_mcp_dispatch_id";

/// The most that one call can cost: the hold, which is sized by the longest call (usage and credits
/// page: $3.00).
pub const CALL_HOLD: MilliCents = MilliCents(300_000);

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Order {
    /// Place this call.
    Call(Box<CallCreate>),
    /// Buy this number, at this price if it could be found out.
    Number {
        /// The number.
        number: E164,
        /// What it costs at once.
        price: Option<MilliCents>,
    },
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Product {
    /// The call.
    Call(Box<Call>),
    /// The number.
    Number(Box<PhoneNumber>),
}

impl Product {
    /// Its id at CallingBox.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Call(call) => call.id.as_str(),
            Self::Number(number) => number.id.as_str(),
        }
    }
}

/// An order with what its caller said about repeating it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The order.
    pub order: Order,
    /// The caller's own name for it.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Do it although the same was done a moment ago.
    pub allow_repeat: bool,
}

impl Asked {
    /// Call or purchase.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.order {
            Order::Call(_) => Kind::Call,
            Order::Number { .. } => Kind::Purchase,
        }
    }

    /// The number that is bought.
    #[must_use]
    pub fn number(&self) -> Option<&E164> {
        match &self.order {
            Order::Call(_) => None,
            Order::Number { number, .. } => Some(number),
        }
    }

    /// Whom it rings.
    #[must_use]
    pub fn callee(&self, tenant: &Tenant) -> Option<Callee> {
        match &self.order {
            Order::Call(call) => Some(Callee::new(tenant, &call.to)),
            Order::Number { .. } => None,
        }
    }

    /// The most that it can cost.
    #[must_use]
    pub fn hold(&self) -> MilliCents {
        match &self.order {
            Order::Call(_) => CALL_HOLD,
            Order::Number { price, .. } => price.unwrap_or(MilliCents::DOLLAR),
        }
    }

    /// What makes two orders the same: everything the person who is called could notice. Where the
    /// events go is not part of it.
    #[must_use]
    pub fn fingerprint(&self, tenant: &TenantId) -> Fingerprint {
        Fingerprint::of(tenant, self.kind(), &self.arguments(false))
    }

    /// What a human's yes is bound to: everything.
    #[must_use]
    pub fn binding(&self, tenant: &TenantId) -> Fingerprint {
        Fingerprint::of(tenant, self.kind(), &self.arguments(true))
    }

    fn arguments(&self, everything: bool) -> Value {
        // Nothing and an empty object are the same to the API.
        let told = |data: &Option<Map<String, Value>>| {
            data.as_ref().filter(|data| !data.is_empty()).map_or(Value::Null, |data| json!(data))
        };
        let mut arguments = match &self.order {
            Order::Call(call) => json!({
                "agent_id": call.agent_id,
                "to": call.to,
                "from_number": call.from_number,
                "instructions": call.instructions,
                "context": told(&call.context),
                "metadata": told(&call.metadata),
            }),
            Order::Number { number, .. } => json!({"phone_number": number}),
        };
        if let (true, Some(members)) = (everything, arguments.as_object_mut()) {
            let webhook_url = match &self.order {
                Order::Call(call) => json!(call.webhook_url),
                Order::Number { .. } => Value::Null,
            };
            members.insert("webhook_url".to_owned(), webhook_url);
            members.insert("idempotency_key".to_owned(), json!(self.idempotency_key));
            members.insert("allow_repeat".to_owned(), json!(self.allow_repeat));
        }
        arguments
    }
}

/// The call as it is sent: with the dispatch id in its metadata.
#[must_use]
pub fn marked(call: &CallCreate, dispatch: DispatchId) -> CallCreate {
    let mut call = call.clone();
    call.metadata
        .get_or_insert_default()
        .insert(DISPATCH_KEY.to_owned(), Value::String(dispatch.to_string()));
    call
}

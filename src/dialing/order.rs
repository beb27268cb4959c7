//! What is to be done: a call or a purchase, and what makes two orders the same.

use serde_json::{Map, Value};

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

    /// Identifies the order: two orders with the same fingerprint are the same call or purchase.
    #[must_use]
    pub fn fingerprint(&self, tenant: &TenantId) -> Fingerprint {
        Fingerprint::of(tenant, self.kind(), &Value::Object(self.arguments().identity))
    }

    /// Identifies everything that a confirmation of this request covers.
    #[must_use]
    pub fn confirmation_fingerprint(&self, tenant: &TenantId) -> Fingerprint {
        let Arguments { mut identity, handling } = self.arguments();
        identity.extend(handling);
        Fingerprint::of(tenant, self.kind(), &Value::Object(identity))
    }

    /// Destructures the request without `..`: a new field must be given its place here before the code compiles.
    fn arguments(&self) -> Arguments {
        let Self { order, idempotency_key, allow_repeat } = self;
        let mut handling = members([
            ("idempotency_key", text(idempotency_key.as_ref().map(IdempotencyKey::as_str))),
            ("allow_repeat", Value::Bool(*allow_repeat)),
        ]);
        let identity = match order {
            Order::Call(call) => {
                let CallCreate {
                    agent_id,
                    to,
                    from_number,
                    instructions,
                    context,
                    webhook_url,
                    metadata,
                } = call.as_ref();
                handling.insert("webhook_url".to_owned(), text(webhook_url.as_deref()));
                members([
                    ("agent_id", text(Some(agent_id.as_str()))),
                    ("to", text(Some(to.as_str()))),
                    ("from_number", text(from_number.as_ref().map(E164::as_str))),
                    ("instructions", text(instructions.as_deref())),
                    ("context", object(context.as_ref())),
                    ("metadata", object(metadata.as_ref())),
                ])
            }
            // A confirmation covers the price through the text that the user saw.
            Order::Number { number, price: _ } => {
                members([("phone_number", text(Some(number.as_str())))])
            }
        };
        Arguments { identity, handling }
    }
}

/// The arguments of a request, divided by what they affect.
struct Arguments {
    /// What the callee could notice, or which number is bought.
    identity: Map<String, Value>,
    /// How the request is handled: where events go, and what happens when it is repeated.
    handling: Map<String, Value>,
}

fn members<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, Value::from)
}

/// An empty object counts as absent, as it does for the API.
fn object(value: Option<&Map<String, Value>>) -> Value {
    value.filter(|value| !value.is_empty()).cloned().map_or(Value::Null, Value::Object)
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

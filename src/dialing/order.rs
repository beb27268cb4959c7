//! Orders: a call or a purchase, and what makes two orders the same.

use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization as _;

use super::caller::CallerName;
use super::ledger::{
    AccountRef, ArgumentHashes, Attempt, Callee, ConfirmedBy, DispatchId, Fingerprint,
    IdempotencyKey,
};
use super::limits::OrderKind;
use super::policy::{MetadataSource, PolicyDecision};
use callingbox::E164;
use callingbox::MilliCents;
use callingbox::{Call, CallCreate, PhoneNumber};

/// The member of a call's `metadata` that carries the dispatch id. Callers may not set it.
pub const DISPATCH_KEY: &str = "callingbox_mcp_dispatch_id";

/// The most that one call can cost: the amount that CallingBox reserves for the longest call ($3.00).
pub const CALL_HOLD: MilliCents = MilliCents(300_000);

/// The price of a connected minute ($0.05), which is charged by the second.
const MINUTE_PRICE: MilliCents = MilliCents(5_000);

/// The price of a call and the hold for it, for people.
#[must_use]
pub fn describe_call_cost() -> String {
    format!("{MINUTE_PRICE} per connected minute; {CALL_HOLD} of credit are held until it ends")
}

/// The price of this many connected seconds.
#[must_use]
pub const fn call_price(seconds: u64) -> MilliCents {
    MilliCents(MINUTE_PRICE.0.saturating_mul(seconds) / 60)
}

/// A call or a purchase.
#[derive(Debug, Clone)]
pub enum Order {
    Call(Box<CallCreate>),
    /// The purchase of a number.
    Number {
        number: E164,
        /// The first payment, if it is known.
        price: Option<MilliCents>,
    },
}

/// What an order produced.
#[derive(Debug, Clone)]
pub enum Placed {
    Call(Box<Call>),
    Number(Box<PhoneNumber>),
}

impl Placed {
    /// The id that CallingBox assigned.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Call(call) => call.id.as_str(),
            Self::Number(number) => number.id.as_str(),
        }
    }
}

impl Order {
    /// Whether a successful answer to the request is that of this order. An answer that names another number or another
    /// dispatch is not, and neither is a call that has ended, unless it has the dispatch id: a call rings first.
    #[must_use]
    pub fn matches_answer(&self, dispatch: DispatchId, answer: &Placed) -> bool {
        match (self, answer) {
            (Self::Call(order), Placed::Call(call)) => {
                let own_id = dispatch.to_string();
                let carried =
                    call.metadata.as_ref().and_then(|metadata| metadata.get(DISPATCH_KEY));
                let is_own = carried.map(|id| id.as_str() == Some(own_id.as_str()));
                is_own.unwrap_or_else(|| !call.status.is_terminal())
                    && call.to_number.as_ref().is_none_or(|number| *number == order.to)
            }
            (Self::Number { number, .. }, Placed::Number(bought)) => {
                bought.e164.as_ref().is_none_or(|e164| e164 == number)
            }
            _ => false,
        }
    }
}

/// An order, and what the client said about repeating it.
#[derive(Debug, Clone)]
pub struct DialRequest {
    pub order: Order,
    /// Who asks for it.
    pub caller: CallerName,
    pub idempotency_key: Option<IdempotencyKey>,
    /// Place it even if the same order was placed a moment ago.
    pub allow_repeat: bool,
    /// The attempt of a batch that the call is.
    pub attempt: Option<Attempt>,
    /// The instructions that are sent in place of the call's own: with the sentence that discloses the AI. Calls are
    /// compared without it.
    pub disclosing_instructions: Option<String>,
    /// Who wrote the metadata of the call.
    pub metadata_source: MetadataSource,
}

impl DialRequest {
    #[must_use]
    pub fn kind(&self) -> OrderKind {
        match self.order {
            Order::Call(_) => OrderKind::Call,
            Order::Number { .. } => OrderKind::Purchase,
        }
    }

    /// The agent that calls.
    #[must_use]
    pub fn agent_id(&self) -> Option<&str> {
        match &self.order {
            Order::Call(call) => Some(call.agent_id.as_str()),
            Order::Number { .. } => None,
        }
    }

    /// The number to buy.
    #[must_use]
    pub fn number(&self) -> Option<&E164> {
        match &self.order {
            Order::Call(_) => None,
            Order::Number { number, .. } => Some(number),
        }
    }

    /// The number to call.
    #[must_use]
    pub fn callee(&self, account: &AccountRef) -> Option<Callee> {
        match &self.order {
            Order::Call(call) => Some(Callee::new(account, &call.to)),
            Order::Number { .. } => None,
        }
    }

    /// The most that the order can cost.
    #[must_use]
    pub fn hold(&self) -> MilliCents {
        match &self.order {
            Order::Call(_) => CALL_HOLD,
            Order::Number { price, .. } => price.unwrap_or(MilliCents::DOLLAR),
        }
    }

    /// The rule as receipts name it: with the metadata that it needs, and whose word for that is taken.
    #[must_use]
    pub fn receipt_rule(&self, decision: &PolicyDecision, confirmed_by: ConfirmedBy) -> String {
        if decision.required_metadata.is_empty() {
            return decision.rule.to_string();
        }
        let source = match (self.metadata_source, confirmed_by) {
            (MetadataSource::File, _) => "file",
            (
                MetadataSource::Model,
                ConfirmedBy::User | ConfirmedBy::Card | ConfirmedBy::Terminal,
            ) => "user-confirmed",
            (
                MetadataSource::Model,
                ConfirmedBy::Token | ConfirmedBy::Flag | ConfirmedBy::NotRequired,
            ) => "model",
        };
        format!("{} ({}: {source})", decision.rule, decision.required_metadata.join(", "))
    }

    /// Identifies the order: two orders with the same fingerprint are the same call or purchase. White space and the
    /// composition of characters make no difference.
    #[must_use]
    pub fn fingerprint(&self, account: &AccountRef) -> Fingerprint {
        Fingerprint::new(
            account,
            self.kind(),
            &normalize(&Value::Object(self.arguments().identity)),
        )
    }

    /// The hash of each argument that the fingerprint depends on.
    #[must_use]
    pub fn argument_hashes(&self, account: &AccountRef) -> ArgumentHashes {
        let normalized = self.arguments().identity.into_iter();
        let normalized = normalized.map(|(name, value)| (name, normalize(&value))).collect();
        ArgumentHashes::new(account, &normalized)
    }

    /// Identifies everything that a confirmation of this request covers.
    #[must_use]
    pub fn confirmation_fingerprint(&self, account: &AccountRef) -> Fingerprint {
        let OrderArguments { mut identity, handling } = self.arguments();
        identity.extend(handling);
        Fingerprint::new(account, self.kind(), &Value::Object(identity))
    }

    /// Destructures the request without `..`: a new field must be given its place here before the code compiles.
    fn arguments(&self) -> OrderArguments {
        let Self {
            order,
            caller,
            idempotency_key,
            allow_repeat,
            attempt: _,
            disclosing_instructions,
            metadata_source: _,
        } = self;
        let mut handling = members([
            ("caller", text(Some(caller.as_str()))),
            ("idempotency_key", text(idempotency_key.as_ref().map(IdempotencyKey::as_str))),
            ("allow_repeat", Value::Bool(*allow_repeat)),
            ("disclosing_instructions", text(disclosing_instructions.as_deref())),
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
        OrderArguments { identity, handling }
    }
}

/// The arguments of a request, divided by what they affect.
struct OrderArguments {
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

/// The value with every text in NFC, without white space at its ends and with one space for each run of white space.
fn normalize(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let words: String = text.nfc().collect();
            Value::String(words.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        Value::Array(items) => items.iter().map(normalize).collect(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), normalize(value)));
            Value::Object(members.collect())
        }
        other => other.clone(),
    }
}

/// The call with the dispatch id in its metadata, as it is sent.
#[must_use]
pub fn with_dispatch_id(call: &CallCreate, dispatch: DispatchId) -> CallCreate {
    let mut call = call.clone();
    call.metadata
        .get_or_insert_default()
        .insert(DISPATCH_KEY.to_owned(), Value::String(dispatch.to_string()));
    call
}

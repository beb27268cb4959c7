//! Owned numbers: listing, searching what is for sale, buying.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::agents::AgentType;
use super::answer::{Answer, Refusal, Reply};
use super::billing::NUMBER_CENTS;
use super::catalogue::{self, KINDS, Kind, Wish};
use super::clock::Moment;
use super::fields::{Fields, wrong};
use super::records::Record;
use super::request::Request;
use super::world::{Org, Scope};
use crate::e164::E164;
use crate::money::MilliCents;

/// A number that the organization owns.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Number {
    pub(super) id: Uuid,
    pub(super) e164: String,
    pub(super) kind: Kind,
    pub(super) purchased_at: Moment,
}

impl Record for Number {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Org {
    /// The owned number with these digits.
    pub(super) fn number_by_digits(&self, e164: &str) -> Option<&Number> {
        self.numbers.iter().find(|number| number.e164 == e164)
    }

    /// The one inbound agent of a number.
    pub(super) fn inbound_agent(&self, number: Uuid) -> Option<Uuid> {
        let mut agents = self.agents.iter().filter(|agent| agent.numbers.contains(&number));
        agents.find(|agent| agent.kind == AgentType::Inbound).map(|agent| agent.id)
    }

    /// A number as the API shows it.
    pub(super) fn show_number(&self, number: &Number) -> Value {
        let outbound: Vec<Uuid> = self
            .agents
            .iter()
            .filter(|agent| agent.kind == AgentType::Outbound && agent.numbers.contains(&number.id))
            .map(|agent| agent.id)
            .collect();
        let kind = KINDS.iter().find(|(_, kind)| *kind == number.kind).map(|(word, _)| *word);
        json!({
            "id": number.id,
            "e164": number.e164,
            "friendly_name": null,
            "country_code": "US",
            "number_type": kind,
            "status": "active",
            "monthly_cost_cents": NUMBER_CENTS,
            "purchased_at": number.purchased_at.text(),
            "inbound_agent_id": self.inbound_agent(number.id),
            "outbound_agent_ids": outbound,
            "simulated": true,
        })
    }
}

/// GET /v1/numbers
pub(super) fn list(scope: &mut Scope<'_>, request: Request) -> Answer {
    let org = &*scope.org;
    org.numbers.page(request.query, |number| org.show_number(number)).map(Reply::ok)
}

/// GET /v1/numbers/available
pub(super) fn available(scope: &mut Scope<'_>, request: Request) -> Answer {
    let mut query = request.query;
    let country = query.text("country_code").unwrap_or_else(|| "US".to_owned());
    let area_code = query.text("area_code");
    let kind = query.word("number_type", KINDS)?;
    let limit = query.limit(10, 50)?;
    query.end()?;
    if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(wrong("country_code", "two capital letters, such as US"));
    }
    // Only US numbers are offered for now: any other country has none.
    let limit = if country == "US" { limit } else { 0 };
    let wish = Wish { area_code: area_code.as_deref(), kind, limit };
    Ok(Reply::ok(Value::Array(catalogue::search(scope.settings.seed, &wish, scope.sold))))
}

/// POST /v1/numbers/purchase
pub(super) fn purchase(scope: &mut Scope<'_>, request: Request) -> Answer {
    request.query.end()?;
    let mut fields = Fields::parse(&request.body)?;
    let wanted = fields.required_text("phone_number")?;
    fields.end()?;
    let wanted = E164::parse(&wanted)
        .map_err(|_| wrong("phone_number", "a number in E.164 form, such as +14155550123"))?;
    let wanted = wanted.as_str();
    let kind = catalogue::kind_of(wanted).filter(|_| !scope.sold.contains(wanted));
    let Some(kind) = kind else {
        return Err(Refusal::conflict(format!("number {wanted} is no longer for sale")));
    };
    let price = MilliCents::from_cents(NUMBER_CENTS);
    let available = scope.org.available();
    if available < price {
        return Err(Refusal::new(
            http::StatusCode::PAYMENT_REQUIRED,
            format!("insufficient credit: the number costs {price}, {available} is available"),
        ));
    }
    scope.org.balance = MilliCents(scope.org.balance.0.saturating_sub(price.0));
    scope.sold.insert(wanted.to_owned());
    let number = Number {
        id: scope.org.next_id(scope.settings.seed),
        e164: wanted.to_owned(),
        kind,
        purchased_at: scope.now,
    };
    let shown = scope.org.show_number(&number);
    scope.org.numbers.push(number);
    Ok(Reply::created(shown))
}

//! Phone numbers: those the organization owns, and those for sale.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::error::Error;
use super::ids::{AgentId, NumberId};
use super::model::{Open, Timestamp, model};
use super::operation::ApiOperation;
use super::page::{Page, PageRequest};
use crate::e164::E164;
use crate::money::MilliCents;

/// The kind of a phone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum NumberType {
    /// A number of an area.
    Local,
    /// A number that is free of charge to call.
    TollFree,
}

impl NumberType {
    /// The API's own word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::TollFree => "toll_free",
        }
    }
}

model! {
    /// A number that the organization owns.
    pub struct PhoneNumber, key id: NumberId {
        /// The number itself.
        e164: Option<E164>,
        /// Label for people.
        friendly_name: Option<String>,
        /// ISO 3166 country code.
        country_code: Option<String>,
        /// The kind of number.
        number_type: Option<Open<NumberType>>,
        /// Its state; `active` is the only documented word.
        status: Option<String>,
        /// Monthly price in cents.
        monthly_cost_cents: Option<u64>,
        /// When it was bought.
        purchased_at: Option<Timestamp>,
        /// The one inbound agent that answers calls to it.
        inbound_agent_id: Option<AgentId>,
        /// Outbound agents that may use it as caller ID.
        outbound_agent_ids: Option<Vec<AgentId>>,
    }
}

model! {
    /// A number for sale.
    pub struct AvailableNumber, key phone_number: E164 {
        /// ISO 3166 country code.
        country_code: Option<String>,
        /// The kind of number.
        number_type: Option<Open<NumberType>>,
        /// US state of a local number.
        state: Option<String>,
        /// City of a local number.
        locality: Option<String>,
        /// Monthly price in cents.
        monthly_cost_cents: Option<u64>,
        /// One-off price in cents.
        upfront_cost_cents: Option<u64>,
        /// Currency of the prices.
        currency: Option<String>,
    }
}

impl AvailableNumber {
    /// What it costs at once: the first month and the one-off price. Nothing is known of it where the
    /// API does not say the monthly price.
    #[must_use]
    pub fn price(&self) -> Option<MilliCents> {
        let monthly = MilliCents::from_cents(self.monthly_cost_cents?);
        let upfront = MilliCents::from_cents(self.upfront_cost_cents.unwrap_or_default());
        Some(monthly.saturating_add(upfront))
    }
}

/// Which numbers for sale to look for. Absent fields are not sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NumberSearch {
    /// ISO 3166 country code; the API looks in the US when absent.
    pub country_code: Option<String>,
    /// Area code, for local numbers.
    pub area_code: Option<String>,
    /// The kind of number.
    pub number_type: Option<NumberType>,
    /// How many at most.
    pub limit: Option<u32>,
}

#[derive(Serialize)]
struct Purchase<'a> {
    phone_number: &'a E164,
}

impl Client {
    /// The organization's active numbers, newest first.
    ///
    /// # Errors
    /// [`Error`] when no readable list comes back.
    pub async fn list_numbers(&self, page: &PageRequest) -> Result<Page<PhoneNumber>, Error> {
        self.get(ApiOperation::ListNumbers, &[], &page.query()).await?.page()
    }

    /// Numbers for sale. There is no next page to ask for.
    ///
    /// # Errors
    /// [`Error`] when no readable list comes back.
    pub async fn search_numbers(
        &self,
        search: &NumberSearch,
    ) -> Result<Page<AvailableNumber>, Error> {
        let query: Vec<_> = [
            ("country_code", search.country_code.clone()),
            ("area_code", search.area_code.clone()),
            ("number_type", search.number_type.map(|t| t.as_str().to_owned())),
            ("limit", search.limit.map(|limit| limit.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        self.get(ApiOperation::SearchNumbers, &[], &query).await?.page()
    }

    /// Buys a number: credit is charged at once.
    ///
    /// # Errors
    /// [`Error`]; unless its effect is [`super::Effect::Nothing`] the number may be bought, and the
    /// request must not be repeated before the owned numbers were looked at.
    pub async fn purchase_number(&self, number: &E164) -> Result<PhoneNumber, Error> {
        self.send_json(ApiOperation::PurchaseNumber, &[], &Purchase { phone_number: number })
            .await?
            .one()
    }
}

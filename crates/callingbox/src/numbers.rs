//! Telephone numbers: the organization's own ones, and those for sale.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_with::skip_serializing_none;

use crate::client::ApiClient;
use crate::e164::E164;
use crate::error::Error;
use crate::ids::{AgentId, NumberId};
use crate::lenient::lenient_record;
use crate::model::{OpenEnum, Timestamp};
use crate::money::MilliCents;
use crate::operation::ApiOperation;
use crate::page::{Page, PageRequest};
use crate::send_guard::SendGuard;

/// The type of a telephone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum NumberType {
    /// A number with an area code.
    Local,
    /// A number that callers reach free of charge.
    TollFree,
}

impl NumberType {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::TollFree => "toll_free",
        }
    }
}

/// A number that the organization owns. Every field but the id may be absent.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct PhoneNumber {
    /// The id.
    pub id: NumberId,
    /// The number itself.
    pub e164: Option<E164>,
    /// Its name in the dashboard.
    pub friendly_name: Option<String>,
    /// The country, as an ISO 3166-1 alpha-2 code.
    pub country_code: Option<String>,
    /// Its type.
    pub number_type: Option<OpenEnum<NumberType>>,
    /// Its status. Only `active` is documented.
    pub status: Option<String>,
    /// The monthly price, in cents.
    pub monthly_cost_cents: Option<u64>,
    /// When it was bought.
    pub purchased_at: Option<Timestamp>,
    /// The inbound agent that answers calls to it.
    pub inbound_agent_id: Option<AgentId>,
    /// The outbound agents that may call from it.
    pub outbound_agent_ids: Option<Vec<AgentId>>,
    /// Fields that are unknown or do not fit their type, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

lenient_record!(PhoneNumber {
    id;
    e164, friendly_name, country_code, number_type, status, monthly_cost_cents, purchased_at,
    inbound_agent_id, outbound_agent_ids,
});

/// A number for sale. Every field but the number may be absent.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Serialize, JsonSchema)]
pub struct AvailableNumber {
    /// The number itself.
    pub phone_number: E164,
    /// The country, as an ISO 3166-1 alpha-2 code.
    pub country_code: Option<String>,
    /// Its type.
    pub number_type: Option<OpenEnum<NumberType>>,
    /// The US state of a local number.
    pub state: Option<String>,
    /// The city of a local number.
    pub locality: Option<String>,
    /// The monthly price, in cents.
    pub monthly_cost_cents: Option<u64>,
    /// The one-time price, in cents.
    pub upfront_cost_cents: Option<u64>,
    /// The currency of the prices, as an ISO 4217 code.
    pub currency: Option<String>,
    /// Fields that are unknown or do not fit their type, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

lenient_record!(AvailableNumber {
    phone_number;
    country_code, number_type, state, locality, monthly_cost_cents, upfront_cost_cents, currency,
});

impl AvailableNumber {
    /// The charge on purchase: the first month and the one-time price. `None` if the monthly price is unknown.
    #[must_use]
    pub fn purchase_price(&self) -> Option<MilliCents> {
        let monthly = MilliCents::from_cents(self.monthly_cost_cents?);
        let upfront = MilliCents::from_cents(self.upfront_cost_cents.unwrap_or_default());
        Some(monthly.saturating_add(upfront))
    }
}

/// A search for numbers for sale. Absent fields are not sent.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NumberSearch {
    /// The country, as an ISO 3166-1 alpha-2 code; `US` if absent.
    pub country_code: Option<String>,
    /// The area code of local numbers.
    pub area_code: Option<String>,
    /// Its type.
    pub number_type: Option<NumberType>,
    /// The largest number of results; the API chooses if absent.
    pub limit: Option<u32>,
}

#[derive(Serialize)]
struct Purchase<'a> {
    phone_number: &'a E164,
}

impl ApiClient {
    /// Lists the organization's active numbers, the newest first (`GET /v1/numbers`).
    ///
    /// # Errors
    /// [`Error`] if no readable list comes back.
    pub async fn list_numbers(&self, page: &PageRequest) -> Result<Page<PhoneNumber>, Error> {
        self.get(ApiOperation::ListNumbers, &[], page).await?.page()
    }

    /// Lists numbers for sale (`GET /v1/numbers/available`). The list has no further pages.
    ///
    /// # Errors
    /// [`Error`] if no readable list comes back.
    pub async fn search_numbers(
        &self,
        search: &NumberSearch,
    ) -> Result<Page<AvailableNumber>, Error> {
        self.get(ApiOperation::SearchNumbers, &[], search).await?.page()
    }

    /// Buys a number (`POST /v1/numbers/purchase`). Its price is charged immediately.
    ///
    /// # Errors
    /// [`Error`]. Unless its effect is [`crate::Effect::Nothing`], the number may have been bought: list the owned numbers
    /// before you send the request again.
    pub async fn purchase_number(&self, number: &E164) -> Result<PhoneNumber, Error> {
        self.send_json(ApiOperation::PurchaseNumber, &[], &Purchase { phone_number: number })
            .await?
            .record()
    }

    /// Buys a number unless the guard withholds the request.
    ///
    /// # Errors
    /// As for [`ApiClient::purchase_number`]; and [`crate::ErrorKind::Withheld`], after which nothing was done.
    pub async fn purchase_number_guarded(
        &self,
        number: &E164,
        guard: SendGuard,
    ) -> Result<PhoneNumber, Error> {
        let purchase = Purchase { phone_number: number };
        self.send_guarded_json(ApiOperation::PurchaseNumber, &[], &purchase, Some(guard))
            .await?
            .record()
    }
}

//! A request as a handler gets it, after its key has been checked.

use bytes::Bytes;

use super::fields::InputFields;

pub(crate) struct ApiRequest {
    /// The ids in the path, in their order.
    pub(crate) path_params: Vec<String>,
    pub(crate) query: InputFields,
    pub(crate) body: Bytes,
}

impl ApiRequest {
    /// The first id in the path; empty when there is none.
    pub(crate) fn id(&self) -> &str {
        self.path_params.first().map_or("", String::as_str)
    }

    /// The second id in the path; empty when there is none.
    pub(crate) fn second_id(&self) -> &str {
        self.path_params.get(1).map_or("", String::as_str)
    }
}

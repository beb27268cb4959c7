//! What a caller reads: answers, errors and next steps, as data and as text. It does not know any tool.

pub mod answer;
pub mod call_report;
pub mod call_summary;
pub mod error;
pub mod next_step;
mod refusal;
pub mod text;

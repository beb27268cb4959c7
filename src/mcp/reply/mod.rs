//! What a caller reads: answers, failures and next steps, and the form of their texts.

pub mod next_step;

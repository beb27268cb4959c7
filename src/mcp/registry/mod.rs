//! What is known about the tools without calling one. Knows no tool's type.

pub mod available;
pub mod name;

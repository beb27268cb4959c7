//! What is known about the tools without calling one, and which of them a caller can use. It does not know
//! any tool's type.

pub mod available;
pub mod description;
pub mod effect;
pub mod index;
pub mod name;
pub mod scope;
pub mod selection;
pub mod surface;

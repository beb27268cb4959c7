//! The arguments of tools: their types, how they are parsed, and the schemas that describe them.

pub mod arguments;
pub mod normalize;
pub mod schema;

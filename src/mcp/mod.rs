//! The MCP side: what a model is offered, how its calls are checked, and what it is answered.
//!
//! - [`catalogue`]: what a tool is (a tool that does not say what it does to the world does not
//!   compile), and the list of all of them; [`toolset`]: their groups; [`selection`]: which are offered,
//!   [`offer`]: which texts fit that, [`view`]: what else is seen with it; [`scope`]: what each takes to
//!   be granted; [`caller`]: who asks, where there are many;
//! - [`arguments`] and [`schema`]: the types arguments are made of, and the schemas of those types;
//! - [`gate`]: the one place through which every tool call passes;
//! - [`present`] and [`error`]: the one place that shapes every answer, and every failure;
//! - [`confirmation`] asks the human, [`waiting`] waits for a call, [`progress`] tells how it goes,
//!   [`tasks`] makes a call a task;
//! - [`resources`], [`prompts`], [`completions`], [`skill`]: what else a client can read;
//! - [`server`]: rmcp's handler, which only connects the above to the protocol.
//!
//! It knows nothing of transports.

pub mod arguments;
pub mod caller;
pub mod catalogue;
pub mod client;
pub mod completions;
pub mod confirmation;
pub mod error;
pub mod gate;
pub mod offer;
pub mod outcome;
pub mod present;
pub mod progress;
pub mod prompts;
pub mod resources;
pub mod schema;
pub mod scope;
pub mod selection;
pub mod server;
pub mod skill;
pub mod tasks;
mod tools;
pub mod toolset;
pub mod view;
pub mod waiting;

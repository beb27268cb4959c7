//! The MCP side: what a model is offered, how its calls are checked, and what it is answered.
//!
//! - [`tool`]: what a tool is (one that does not say what it does to the world does not compile), and
//!   [`context`]: what it is handed; [`catalogue`]: the list of all of them;
//! - [`index`]: what is known of each without calling it; [`kind`]: what it does to the world,
//!   its toolset, [`scope`]: what it takes to be granted; [`selection`]: which are offered,
//!   [`registry`]: which of them one caller can use, [`view`]: what else is seen with it; [`caller`]: who asks, where
//!   there are many;
//! - [`arguments`] and [`schema`]: the types arguments are made of, and the schemas of those types;
//! - [`gate`]: the one place through which every tool call passes;
//! - [`present`], [`error`] and [`answer`]: the one place that words every answer, and every failure, and
//!   makes a result of either;
//! - [`confirmation`] asks the human, [`waiting`] waits for a call, [`progress`] tells how it goes,
//!   [`tasks`] makes a call a task;
//! - [`resources`], [`prompts`], [`completions`], [`skill`]: what else a client can read;
//! - [`server`]: rmcp's handler, which only connects the above to the protocol.
//!
//! It knows nothing of transports.

pub mod answer;
pub mod arguments;
pub mod caller;
pub mod catalogue;
pub mod client;
pub mod completions;
pub mod confirmation;
pub mod context;
pub mod error;
pub mod gate;
pub mod index;
pub mod kind;
pub mod outcome;
pub mod present;
pub mod progress;
pub mod prompts;
pub mod registry;
pub mod reply;
pub mod resources;
pub mod schema;
pub mod scope;
pub mod selection;
pub mod server;
pub mod skill;
pub mod tasks;
pub mod tool;
mod tools;
pub mod view;
pub mod waiting;

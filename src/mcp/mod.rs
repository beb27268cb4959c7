//! The MCP server: the tools that a model is offered, how their calls are checked and run, and what they answer.
//!
//! - [`server`] connects rmcp's handler to everything below; [`pipeline`] is the path of every tool call;
//! - [`tool`] defines what a tool is, `tools` holds the tools by toolset, [`catalogue`] lists them;
//! - [`registry`]: what is known about the tools without calling one, and which of them a caller can use;
//! - [`request`]: who calls, what the client can do, and where progress is reported;
//! - [`input`]: the types of arguments and their schemas; [`reply`]: the texts and data of answers and errors;
//! - [`confirmation`] asks the human, [`waiting`] waits for a call, [`tasks`] represents a call as a task;
//! - [`card`]: the document that shows a call and asks for a yes in the conversation;
//! - [`resources`], [`prompts`], [`completions`] and [`skill`]: what else a client can read.
//!
//! It does not know about transports.

mod call_details;
pub mod card;
pub mod catalogue;
pub mod completions;
pub mod confirmation;
pub mod input;
pub mod pipeline;
pub mod prompts;
pub mod registry;
pub mod reply;
pub mod request;
pub mod resources;
pub mod server;
pub mod skill;
mod task_subject;
pub mod tasks;
pub mod tool;
mod tools;
pub mod waiting;

//! `callingbox-mcp config`: what holds, and where the key comes from; never the key.

use serde::Serialize;

use super::say;
use crate::account::World;
use crate::cli::{self, Global};
use crate::config::{self, File, Folders, Wait};

#[derive(Serialize)]
struct Effective {
    world: World,
    base_url: String,
    api_key: String,
    toolsets: Vec<String>,
    tools: Vec<String>,
    exclude_tools: Vec<String>,
    read_only: bool,
    wait: Wait,
}

pub(super) fn run(
    options: &cli::Config,
    global: &Global,
    file: &File,
    folders: &Folders,
) -> anyhow::Result<()> {
    if options.schema {
        let schema = schemars::schema_for!(File);
        return say(format!("{}\n", serde_json::to_string_pretty(&schema)?));
    }
    let selection = global.selection(file);
    let found = config::credentials(file, &|name| std::env::var(name).ok(), folders)?;
    let (world, base_url, api_key) = match &global.sandbox {
        Some(url) => (
            World::Sandbox,
            url.clone().unwrap_or_else(|| "embedded simulator".to_owned()),
            "none needed".to_owned(),
        ),
        None => (
            World::Real,
            found.base_url.to_string(),
            found.key.map_or_else(|| "not set".to_owned(), |(_, from)| format!("from {from}")),
        ),
    };
    let effective = Effective {
        world,
        base_url,
        api_key,
        toolsets: selection.toolsets_in_force().map(|set| set.to_string()).collect(),
        tools: selection.tools,
        exclude_tools: selection.exclude_tools,
        read_only: selection.read_only,
        wait: file.wait.clone(),
    };
    say(toml::to_string(&effective)?)
}

// Runs the official TypeScript SDK 1.x against the simulator.
// Usage: typescript_sdk.mjs PACKAGES PROGRAM
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, program] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const load = (part) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/client/${part}`)));
const { Client } = await load("index.js");
const { StdioClientTransport } = await load("stdio.js");

const client = new Client({ name: "proof", version: "1" });
await client.connect(new StdioClientTransport({ command: program, args: ["stdio", "--sandbox"] }));
const { tools } = await client.listTools();
assert(tools.some((tool) => tool.name === "place_call"));
// The SDK checks the result against the output schema.
const answer = await client.callTool({ name: "list_agents", arguments: {} });
assert.deepEqual([answer.isError ?? false, answer.structuredContent], [false, { agents: [], has_more: false }]);
await client.close();
console.log("ok");

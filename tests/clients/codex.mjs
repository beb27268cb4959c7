// Lets Codex call a tool as it does for its model, through its app-server over standard input and output.
// `install codex` ran in this home before.
// Usage: codex.mjs NAME
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const [name] = process.argv.slice(2);
const codex = spawn("codex", ["app-server"], { stdio: ["pipe", "pipe", "inherit"] });
const waiting = new Map();
const seen = new Promise((_, fail) => {
  codex.on("exit", (code) => fail(new Error(`codex ended (${code})`)));
  setTimeout(() => fail(new Error("codex did not answer in 90 s")), 90_000).unref();
});
seen.catch(() => {});
createInterface({ input: codex.stdout }).on("line", (line) => {
  const message = JSON.parse(line);
  waiting.get(message.id)?.(message);
});
let id = 0;
const send = (message) => codex.stdin.write(JSON.stringify(message) + "\n");
async function ask(method, params) {
  const answer = new Promise((done) => waiting.set(++id, done));
  send({ id, method, params });
  const { result, error } = await Promise.race([answer, seen]);
  assert(error === undefined, `${method}: ${JSON.stringify(error)}`);
  return result;
}

await ask("initialize", { clientInfo: { name: "proof", title: "proof", version: "1" } });
send({ method: "initialized" });
const { data } = await ask("mcpServerStatus/list", {});
const server = data.find((one) => one.name === name);
assert(Object.keys(server.tools).some((name) => name.includes("place_call")), JSON.stringify(server));
const { thread } = await ask("thread/start", { cwd: process.cwd() });
const answer = await ask("mcpServer/tool/call", {
  threadId: thread.id, server: name, tool: "list_agents", arguments: {},
});
assert.deepEqual([answer.isError ?? false, answer.structuredContent], [false, { agents: [], has_more: false }]);
codex.kill();
console.log("ok");

// Drives the call card in OpenClaw, whose gateway and web page are the host: a call seen live. A scripted model asks
// for it, so that no model is needed, and shows which words reach a model.
//
// Usage: node tests/card/openclaw.mjs      run.sh installs what it needs
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  checkAccessibility, Client, freePort, launch, look, packages, start, startProxy, startServer, takePicture, until,
} from "./lib.mjs";

const server = await startServer('[dialing]\nconfirm = "never"\n');
const proxy = await startProxy(server);
const agent = await new Client(server, {}).createAgent();

// The model: it places the call that the person names, once, and reads the answer.
const read = [];
const model = http.createServer((request, response) => {
  let body = "";
  request.on("data", (part) => { body += part; });
  request.on("end", () => {
    read.push(body);
    const { messages = [] } = JSON.parse(body || "{}");
    const asked = messages.findLastIndex(({ role, content }) => role === "user" && /Call \+\d+/.test(JSON.stringify(content)));
    const isAnswered = messages.slice(asked + 1).some(({ role }) => role === "tool");
    response.writeHead(200, { "content-type": "text/event-stream" });
    const send = (delta, finish_reason = null) => response.write(`data: ${JSON.stringify({
      id: "chunk", object: "chat.completion.chunk", created: 1, model: "script", choices: [{ index: 0, delta, finish_reason }],
    })}\n\n`);
    if (asked >= 0 && !isAnswered) {
      const [, to] = /Call (\+\d+)/.exec(JSON.stringify(messages[asked].content));
      const order = { id: "callingbox__place_call", args: { agent_id: agent, to } };
      send({ role: "assistant", tool_calls: [{ index: 0, id: `call_${read.length}`, type: "function",
        function: { name: "tool_call", arguments: JSON.stringify(order) } }] });
      send({}, "tool_calls");
    } else {
      send({ role: "assistant", content: "Done." });
      send({}, "stop");
    }
    response.end("data: [DONE]\n\n");
  });
});
await new Promise((resolve) => model.listen(0, "127.0.0.1", resolve));

const home = mkdtempSync(path.join(tmpdir(), "openclaw-"));
const file = path.join(home, "openclaw.json");
const port = await freePort();
writeFileSync(file, JSON.stringify({
  gateway: { mode: "local", port, bind: "loopback", auth: { mode: "token", token: "openclaw-of-the-test" } },
  agents: { defaults: { model: { primary: "script/script" }, workspace: path.join(home, "workspace") } },
  models: { mode: "replace", providers: { script: {
    baseUrl: `http://127.0.0.1:${model.address().port}/v1`, apiKey: "none", api: "openai-completions",
    models: [{ id: "script", name: "Script", reasoning: false, input: ["text"], contextWindow: 196608, maxTokens: 8192,
      cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 } }],
  } } },
  mcp: {
    apps: { enabled: true, sandboxPort: await freePort() },
    servers: { callingbox: { url: proxy.url, transport: "streamable-http" } },
  },
}));
const env = { PATH: process.env.PATH, HOME: home, OPENCLAW_STATE_DIR: path.join(home, "state"), OPENCLAW_CONFIG_PATH: file };
const program = path.join(packages, "openclaw/node_modules/openclaw/openclaw.mjs");
await start(process.execPath, [program, "gateway", "run"], /\[gateway\].*(\bready\b)/, { env, cwd: home });
const dashboard = execFileSync(process.execPath, [program, "dashboard", "--json"], { env, cwd: home, encoding: "utf8" });
const { browserUrl } = JSON.parse(dashboard.slice(dashboard.indexOf("{")));

const browser = await launch();
const page = await browser.newPage();
await page.setViewport({ width: 1280, height: 1000 });
await page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "reduce" }]);
await page.goto(browserUrl);

/** Asks the model for a call. */
async function ask(to) {
  const field = await until("the field for messages", () => page.$(">>> textarea"));
  await until("a message that is sent", async () => {
    await field.evaluate((it) => it.focus());
    await page.keyboard.type(`Call ${to}`);
    await page.keyboard.press("Enter");
    return until("the model is asked", () => read.some((body) => body.includes(`Call ${to}`)), 30_000).catch(() => false);
  }, 90_000);
}

/** What a person sees of the card of a call once it is in this state. OpenClaw makes the frame anew when a turn ends. */
const waitForCard = (to, state) => until(`the state ${state} of ${to}`, async () => {
  for (const frame of page.frames().toReversed()) {
    const seen = frame.detached ? null : await look(frame).catch(() => null);
    if (seen?.state === state && JSON.stringify(seen).replace(/\D/g, "").includes(to.slice(1))) return { frame, seen };
  }
}, 60_000);

const to = "+13105550100";
await ask(to);
const { frame, seen } = await waitForCard(to, "completed");
await until("the result", async () => (await look(frame)).result.length >= 3);
assert(seen.lines.length > 4 && seen.simulated === "SIMULATED", JSON.stringify(seen));
await checkAccessibility(frame, "openclaw");
await takePicture(frame, "openclaw");
console.log("ok openclaw: a call");

// No word of the conversation reached the model.
const lines = proxy.recorded.flatMap(({ message }) => message.result?._meta?.["callingbox-mcp/lines"] ?? []);
assert(lines.length > 4);
for (const { text } of lines.filter(({ text }) => text.length > 20)) assert(!read.some((body) => body.includes(text)), text);
assert(read.some((body) => body.includes("The call was placed")));
console.log("ok openclaw: the model sees nothing of the conversation");
await browser.close();
process.exit(0);

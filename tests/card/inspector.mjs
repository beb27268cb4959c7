// Drives the call card in the official MCP Inspector, which is the host: a call seen live, a hostile callee, the yes and the no,
// in light and dark. A proxy takes the ability to ask its user from the Inspector, as hosts of chats have none, and records every
// message between host and program. The Inspector's own frame sends the view's messages, which are read in the page.
//
// Usage: node tests/card/inspector.mjs      run.sh installs what it needs
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  checkAccessibility, checkMessage, Client, freePort, launch, look, packages, pictures, start, startProxy, startServer, takePicture, until,
  URI, waitForState,
} from "./lib.mjs";

const TOKEN = "inspector-of-the-test";

const [port, sandbox] = [await freePort(), await freePort()];
await start(path.join(packages, "node_modules/.bin/mcp-inspector"), ["--web"], new RegExp(`(${port})`), {
  env: {
    PATH: process.env.PATH, HOME: mkdtempSync(path.join(tmpdir(), "inspector-")), HOST: "127.0.0.1", CLIENT_PORT: String(port),
    MCP_SANDBOX_PORT: String(sandbox), MCP_AUTO_OPEN_ENABLED: "false", MCP_INSPECTOR_API_TOKEN: TOKEN,
  },
});
const browser = await launch();

/** Opens a tool's app in the Inspector, with these arguments. */
async function openApp(proxy, tool, args, theme = "light") {
  const page = await browser.newPage();
  await page.setViewport({ width: 1280, height: 1000 });
  await page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "reduce" }, { name: "prefers-color-scheme", value: theme }]);
  await page.evaluateOnNewDocument((theme) => {
    try { localStorage.setItem("mantine-color-scheme-value", theme); } catch { /* the view has no storage */ }
    // The page above the view sees the view's messages pass.
    window.passed = [];
    window.addEventListener("message", (event) => { if (event.data?.jsonrpc === "2.0" && event.source !== window) window.passed.push(event.data); }, true);
  }, theme);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  const query = new URLSearchParams({
    serverUrl: proxy.url, transport: "http", autoConnect: TOKEN, openApp: tool,
    appArgs: Buffer.from(JSON.stringify(args)).toString("base64url"),
  });
  await page.goto(`http://127.0.0.1:${port}/?${query}`);
  await page.waitForSelector("[data-testid=connection-status][data-status=connected]", { timeout: 60_000 });
  const open = await until("the button Open App", async () => {
    for (const button of await page.$$("button")) if (await button.evaluate((it) => it.innerText.trim() === "Open App")) return button;
  });
  await open.click();
  const frame = await until("the frame of the card", async () => {
    for (const found of page.frames()) if (await found.$("#card").catch(() => null)) return found;
  });
  return { page, frame, problems };
}

/** What the view sent, as its host received it. */
async function sentByView({ frame }) {
  const messages = await frame.parentFrame().evaluate(() => window.passed);
  return messages.filter((message) => message.method?.startsWith("ui/") || message.method === "tools/call"
    ? !/tool-(input|result)|host-context|resource-teardown|sandbox-/.test(message.method) : false);
}

async function closeApp(app) {
  const sent = await sentByView(app);
  assert(sent.some((message) => message.method === "ui/initialize"), JSON.stringify(sent));
  sent.forEach(checkMessage);
  await app.page.close();
  assert.deepEqual(app.problems, []);
}

const ok = (name) => console.log(`ok inspector: ${name}`);
const toolCalls = (proxy, name) => proxy.recorded.filter(({ from, message }) => from === "client" && message.params?.name === name);

// A call, from the first ring to its result.
const free = await startServer('[dialing]\nconfirm = "never"\n');
const client = new Client(free);
const agent = await client.createAgent();
for (const [theme, to] of [["light", "+13105550100"], ["dark", "+13105550109"]]) {
  const proxy = await startProxy(free);
  const app = await openApp(proxy, "place_call", { agent_id: agent, to, allow_repeat: true }, theme);
  await waitForState(app.frame, "completed");
  const seen = await until("the result", async () => { const now = await look(app.frame); return now.result.length >= 3 && now; });
  const { call_id } = toolCalls(proxy, "follow_call")[0].message.params.arguments;
  const said = await client.data("get_call_transcript", { call_id });
  assert.equal(seen.lines.length, said.total_lines);
  assert.equal(seen.simulated, "SIMULATED");
  assert.match(seen.facts, /Cost/);
  assert(toolCalls(proxy, "place_call").length === 1 && toolCalls(proxy, "follow_call").length >= 2);
  const read = proxy.recorded.filter(({ message }) => message.method === "resources/read");
  assert(read.length >= 1 && read.every(({ message }) => message.params.uri === URI));
  assert.equal(await app.frame.evaluate(() => document.documentElement.style.colorScheme), theme);
  // What is seen, whatever the host puts behind the frame.
  const canvas = await app.frame.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).map(Number));
  assert(canvas.every((part) => (theme === "dark" ? part < 80 : part > 220)), `${theme}: ${canvas}`);
  await checkAccessibility(app.frame, theme);
  await takePicture(app.frame, `inspector-${theme}`);
  await app.page.screenshot({ path: path.join(pictures, `inspector-page-${theme}.png`) });
  await closeApp(app);
  ok(`a call, ${theme}`);
}

// The yes and the no.
const asking = await startServer('[dialing]\nconfirm = "always"\n');
const plain = new Client(asking, {});
plain.data = async (name, args) => {
  const answer = (await plain.call(name, args)).structuredContent;
  const token = answer?.confirmation_token;
  return token ? (await plain.call(name, { ...args, confirmation_token: token })).structuredContent : answer;
};
const careful = await plain.createAgent();
for (const [button, to] of [["yes", "+13105550121"], ["no", "+13105550122"]]) {
  const proxy = await startProxy(asking);
  const app = await openApp(proxy, "place_call", { agent_id: careful, to });
  await waitForState(app.frame, "asking");
  // The preview is longer than the Inspector's frame: the person reads to its end.
  await app.frame.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
  await until("a button that works", () => app.frame.$eval(`#button-${button}`, (it) => it.getAttribute("aria-disabled") === "false"));
  await checkAccessibility(app.frame, "asking");
  await (await app.frame.$(`#button-${button}`)).click();
  await waitForState(app.frame, ...(button === "yes" ? ["completed"] : ["declined"]));
  const { calls } = await plain.data("list_calls", { limit: 100 });
  assert.equal(calls.some((call) => call.to_number === to), button === "yes");
  const question = proxy.recorded.find(({ from, message }) => from === "server" && message.result?._meta?.["callingbox-mcp/confirm"]);
  const { token } = question.message.result._meta["callingbox-mcp/confirm"];
  for (const { from, message } of proxy.recorded) {
    const text = JSON.stringify(message);
    const expected = message === question.message || (from === "client" && message.params?.name === "confirm_call") ? 1 : 0;
    assert.equal(text.split(token).length - 1, expected, `${from} ${text.slice(0, 300)}`);
  }
  await closeApp(app);
  ok(`the ${button}, whose token stands in one answer and in confirm_call alone`);
}
await browser.close();
process.exit(0);

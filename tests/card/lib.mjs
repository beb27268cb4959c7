// What the jobs of the call card share: the program on its simulator, a proxy that records every message between a client
// and the program, a small MCP client, the schema of MCP Apps, and the checks of a state of the card.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "../..");
export const packages = process.env.CARD_PACKAGES ?? path.join(root, "target/card");
const require = createRequire(`${packages}/`);
export const pictures = process.env.CARD_PICTURES ?? path.join(root, "target/card/pictures");
export const { default: puppeteer } = await import(require.resolve("puppeteer-core"));
const Ajv = require("ajv/dist/2020.js").default;

export const UI = "io.modelcontextprotocol/ui";
export const URI = "ui://callingbox/call-1.html";
export const WITH_CARD = { extensions: { [UI]: { mimeTypes: ["text/html;profile=mcp-app"] } } };

const children = [];
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

/** Runs a program until this one ends, and returns the first group of `pattern` in what it prints. */
export function start(program, args, pattern, options = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  children.push(child);
  let printed = "";
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${program} did not start: ${printed}`)), 60_000);
    const read = (chunk) => {
      printed += chunk;
      const found = pattern.exec(printed);
      if (found) { clearTimeout(timer); resolve(found[1]); }
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}: ${printed}`)));
  });
}

/** A port for a program that cannot choose one itself. */
export const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

/** The program over HTTP on its simulator, with this configuration; the address of its endpoint. */
export async function startServer(config, ...flags) {
  const home = mkdtempSync(path.join(tmpdir(), "card-"));
  writeFileSync(path.join(home, "config.toml"), `policy_file = "${home}/policy.toml"\n${config}`);
  const limits = ["per_hour", "per_day", "concurrent", "per_destination_per_day", "purchases_per_day", "spend_per_day"];
  writeFileSync(path.join(home, "policy.toml"), `[limits]\n${limits.map((limit) => `${limit} = "off"\n`).join("")}`);
  const program = process.env.CARD_PROGRAM ?? path.join(root, "target/debug/callingbox-mcp");
  const args = ["--config", path.join(home, "config.toml"), "--sandbox", "--sandbox-speed", "60",
    "--toolsets", "calls,account,agents,numbers,sandbox", ...flags, "http", "--listen", "127.0.0.1:0"];
  return start(program, args, /listening on (\S+)/, { env: { HOME: home, PATH: process.env.PATH } });
}

/** A proxy in front of the program. It records every message, and takes from the client the ability to ask its user. */
export async function startProxy(target) {
  const recorded = [];
  const withoutElicitation = (message) => {
    for (const capabilities of [message?.params?.capabilities,
      message?.params?._meta?.["io.modelcontextprotocol/clientCapabilities"]]) {
      if (capabilities) delete capabilities.elicitation;
    }
    return message;
  };
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      let body = Buffer.concat(parts);
      if (body.length > 0) {
        const message = withoutElicitation(JSON.parse(body));
        recorded.push({ from: "client", message });
        body = Buffer.from(JSON.stringify(message));
      }
      const headers = { ...request.headers, host: new URL(target).host, "content-length": body.length };
      delete headers["accept-encoding"];
      const forwarded = http.request(target, { method: request.method, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        let text = "";
        answer.on("data", (part) => { text += part; response.write(part); });
        answer.on("end", () => {
          for (const line of text.split("\n")) {
            const json = line.startsWith("data:") ? line.slice(5) : line;
            try { recorded.push({ from: "server", message: JSON.parse(json) }); } catch { /* not a message */ }
          }
          response.end();
        });
      });
      forwarded.on("error", () => response.destroy());
      response.on("close", () => forwarded.destroy());
      forwarded.end(body);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  return { url: `http://127.0.0.1:${server.address().port}/mcp`, recorded };
}

/** A client of the program: requests of 2026-07-28, which need no session. */
export class Client {
  constructor(url, capabilities = WITH_CARD) { Object.assign(this, { url, capabilities, lastId: 0 }); }

  async request(method, params = {}) {
    const id = ++this.lastId;
    const meta = {
      "io.modelcontextprotocol/protocolVersion": "2026-07-28",
      "io.modelcontextprotocol/clientInfo": { name: "card-test", version: "1" },
      "io.modelcontextprotocol/clientCapabilities": this.capabilities,
    };
    const headers = {
      "content-type": "application/json", accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2026-07-28", "mcp-method": method,
      ...(params.name || params.uri ? { "mcp-name": params.name ?? params.uri } : {}),
    };
    const body = JSON.stringify({ jsonrpc: "2.0", id, method, params: { ...params, _meta: meta } });
    const text = await (await fetch(this.url, { method: "POST", headers, body })).text();
    const json = text.startsWith("{") ? text : text.split("\n").filter((line) => line.startsWith("data: {")).at(-1).slice(6);
    const message = JSON.parse(json);
    if (message.error) throw message.error;
    return message.result;
  }

  call(name, args) { return this.request("tools/call", { name, arguments: args }); }

  async data(name, args) {
    const result = await this.call(name, args);
    assert(!result.isError, JSON.stringify(result));
    return result.structuredContent;
  }

  /** An agent that can call, made without asking anybody. */
  async createAgent(settings = {}) {
    const { numbers } = await this.data("search_numbers", { limit: 1, area_code: "415" });
    const { number } = await this.data("purchase_number", { phone_number: numbers[0].phone_number });
    const { agent_id } = await this.data("create_agent", {
      name: "Reminders", type: "outbound", persona: "You are Mia of Northside Dental.",
      instructions: "Remind them of the appointment on Tuesday at three.", voicemail_action: "leave_message",
      returns: { confirmed: "boolean", new_time: "string", party_size: "number" }, number_ids: [number.number_id], ...settings,
    });
    return agent_id;
  }
}

// ---- The schema of MCP Apps ------------------------------------------------------------------------------------
const schema = JSON.parse(readFileSync(
  path.join(packages, "node_modules/@modelcontextprotocol/ext-apps/dist/src/generated/schema.json"), "utf8"));
const ajv = new Ajv({ strict: false, allErrors: true, logger: false });
ajv.addSchema(schema, "apps");
const BY_METHOD = {
  "ui/initialize": "McpUiInitializeRequest", "ui/notifications/initialized": "McpUiInitializedNotification",
  "ui/notifications/size-changed": "McpUiSizeChangedNotification", "ui/message": "McpUiMessageRequest",
  "ui/update-model-context": "McpUiUpdateModelContextRequest", "ui/download-file": "McpUiDownloadFileRequest",
  "ui/request-display-mode": "McpUiRequestDisplayModeRequest",
};

/** Checks a message of the view. */
export function checkMessage(message) {
  const { jsonrpc, id, ...rest } = message;
  const text = JSON.stringify(message);
  assert.equal(jsonrpc, "2.0", text);
  const isNotification = rest.method?.startsWith("ui/notifications/");
  assert.equal(id === undefined, Boolean(isNotification), text);
  if (rest.method === undefined) return assert("result" in rest || "error" in rest, text);
  if (rest.method === "tools/call") {
    assert.deepEqual(Object.keys(rest.params).sort(), ["arguments", "name"], text);
    return assert(["follow_call", "confirm_call"].includes(rest.params.name), text);
  }
  const name = BY_METHOD[rest.method];
  assert(name, `the view sent ${text}`);
  const validate = ajv.getSchema(`apps#/$defs/${name}`);
  assert(validate(rest), `${text}: ${ajv.errorsText(validate.errors)}`);
}

// ---- The card in a browser -------------------------------------------------------------------------------------
const axe = readFileSync(path.join(packages, "node_modules/axe-core/axe.min.js"), "utf8");

export async function launch() {
  mkdirSync(pictures, { recursive: true });
  const browser = await puppeteer.launch({
    executablePath: process.env.CARD_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--force-color-profile=srgb"],
  });
  process.on("exit", () => browser.process()?.kill("SIGKILL"));
  return browser;
}

/** Waits until `probe` returns something true. */
export async function until(what, probe, ms = 30_000) {
  const end = Date.now() + ms;
  let last;
  while (Date.now() < end) {
    try { last = await probe(); if (last) return last; } catch (error) { last = error; }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what} did not happen; last: ${last instanceof Error ? last.stack : JSON.stringify(last)}`);
}

/** What a person sees of the card. */
export const look = (frame) => frame.evaluate(() => {
  const text = (id) => { const found = document.getElementById(id); return found && !found.hidden ? found.innerText.trim() : ""; };
  const all = (selector) => [...document.querySelectorAll(selector)].filter((item) => item.checkVisibility());
  return {
    state: document.getElementById("card").dataset.state, title: text("title"), status: text("status"), note: text("note"),
    simulated: text("simulated"), task: text("task"), hint: text("hint"), facts: text("facts"), clock: text("clock"),
    lines: [...document.querySelectorAll("#lines li")].map((item) => [item.firstChild.textContent, item.lastChild.textContent]),
    shownLines: all("#lines li").length,
    result: all("#result tr").map((row) => [...row.cells].map((cell) => cell.innerText)),
    asked: all("#asked div").map((row) => [row.querySelector("dt").innerText, row.querySelector("dd").innerText.trim()]),
    buttons: all("#buttons button").map((button) => button.innerText),
  };
});

export const waitForState = (frame, ...states) => until(`one of the states ${states}`, async () => {
  const seen = await look(frame);
  if (!states.includes(seen.state)) throw new Error(JSON.stringify(seen));
  return seen;
});

/** axe-core finds nothing. */
export async function checkAccessibility(frame, name) {
  await frame.evaluate(axe);
  const problems = await frame.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join(" | ")}`);
  });
  assert.deepEqual(problems, [], name);
}

export async function takePicture(frame, name) {
  const card = await frame.$("#card");
  await card.screenshot({ path: path.join(pictures, `${name}.png`) });
}

// Drives the call card in a host of our own, which passes messages between the view and the program and can refuse any of
// them: every ending of the simulator, the yes and the no, hosts that can do little, teardown, theme, width, and what the view
// may not do. Every message of the view is checked against the schema of MCP Apps, and every state with axe-core.
//
// Usage: node tests/card/own_host.mjs [PART OF A NAME]      run.sh installs what it needs
import assert from "node:assert/strict";
import {
  checkAccessibility, checkMessage, Client, launch, look, startServer, takePicture, until, URI, waitForState,
} from "./lib.mjs";

// The answer to a call to 0113 comes after the time-out.
const free = await startServer('request_timeout_seconds = 2\n[dialing]\nconfirm = "never"\n');
const asking = await startServer('[dialing]\nconfirm = "always"\n[wait]\nmax_seconds = 60\n');
const client = new Client(free);
const careful = new Client(asking);
// Numbers and agents are bought and made by a client that cannot show the card, with the model's own token.
const plain = new Client(asking, {});
plain.data = async (name, args) => {
  const answer = (await plain.call(name, args)).structuredContent;
  const token = answer?.confirmation_token;
  return token ? (await plain.call(name, { ...args, confirmation_token: token })).structuredContent : answer;
};
const agent = await client.createAgent();
const carefulAgent = await plain.createAgent();
const { contents: [document] } = await client.request("resources/read", { uri: URI });
const browser = await launch();

// The page of the host: it shows the document in a closed frame and hands every message to this program.
const HOST_PAGE = `<!doctype html><meta charset="utf-8"><title>host</title>
<style>html, body { margin: 0; } body.dark { background: #1f1f22; } iframe { border: 0; width: 100%; height: 400px; display: block; }</style>
<iframe id="view" title="card" sandbox="allow-scripts allow-forms"></iframe>
<script>
  const view = document.getElementById("view");
  window.send = (message) => view.contentWindow.postMessage(message, "*");
  window.addEventListener("message", (event) => { if (event.source === view.contentWindow) window.receive(event.data); });
</script>`;
const POLICY = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; "
  + "style-src 'unsafe-inline'; img-src data:\">";

const ALL = {
  openLinks: {}, serverTools: {}, logging: {}, updateModelContext: { text: {} }, message: { text: {} }, downloadFile: {},
};

/** Counts the orders, so that none repeats another. */
let order = 0;

/** Opens the card in a host; `options` say what the host can do. */
async function openCard(options = {}) {
  const { mcp = client, capabilities = ALL, context = {}, width = 480, answers = {}, refuse = () => false } = options;
  const page = await browser.newPage();
  await page.setViewport({ width, height: 1000 });
  await page.emulateMediaFeatures([{ name: "prefers-reduced-motion", value: "reduce" },
    { name: "prefers-color-scheme", value: options.prefers ?? "light" }]);
  const card = { page, sent: [], problems: [], mcp };
  page.on("pageerror", (error) => card.problems.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") card.problems.push(message.text()); });
  const refused = { code: -32601, message: "Method not found" };
  const reply = async ({ method, params }) => {
    if (refuse(method, params)) throw refused;
    if (answers[method]) return answers[method](params);
    switch (method) {
      case "ui/initialize":
        return {
          protocolVersion: "2026-01-26", hostInfo: { name: "own-host", version: "1" }, hostCapabilities: capabilities,
          hostContext: { theme: "light", displayMode: "inline", availableDisplayModes: ["inline", "fullscreen"], locale: "en-US",
            timeZone: "America/New_York", ...context },
        };
      case "tools/call": return mcp.call(params.name, params.arguments);
      case "ui/message": case "ui/update-model-context": case "ui/download-file": return {};
      case "ui/request-display-mode": return { mode: params.mode };
      default: throw refused;
    }
  };
  await page.exposeFunction("receive", async (message) => {
    card.sent.push(message);
    try { checkMessage(message); } catch (error) { card.problems.push(error.message); }
    if (message.method === "ui/notifications/size-changed") {
      await page.evaluate((height) => { document.getElementById("view").style.height = `${height}px`; }, message.params.height);
    }
    if (message.method === undefined || message.id === undefined || card.isClosed) return;
    let answer;
    try { answer = { result: await reply(message) }; } catch (error) { answer = { error: error.code ? error : { code: -32603, message: String(error) } }; }
    if (!card.isClosed) await page.evaluate((sent) => window.send(sent), { jsonrpc: "2.0", id: message.id, ...answer }).catch(() => {});
  });
  await page.setContent(HOST_PAGE);
  await page.evaluate((html) => { document.getElementById("view").srcdoc = html; },
    document.text.replace("<head>", `<head>${POLICY}`));
  if (context.theme === "dark") await page.evaluate(() => document.body.classList.add("dark"));
  card.frame = await until("the frame", async () => {
    for (const frame of page.frames()) if (frame !== page.mainFrame() && await frame.$("#card")) return frame;
  });
  card.notify = (method, params) => page.evaluate((sent) => window.send(sent), { jsonrpc: "2.0", method, params });
  card.requests = (method) => card.sent.filter((message) => message.method === method);
  await until("initialized", async () => card.requests("ui/notifications/initialized").length === 1);
  assert.equal(card.sent[0].method, "ui/initialize");
  return card;
}

async function closeCard(card) {
  card.isClosed = true;
  await card.page.close();
  assert.deepEqual(card.problems, []);
}

/** Shows the card what a tool was given and what it answered. */
async function showResult(card, args, result) {
  await card.notify("ui/notifications/tool-input", { arguments: args });
  await card.notify("ui/notifications/tool-result", result);
}

async function placeCall(card, given, mcp = client) {
  const args = { instructions: `Order ${order += 1}.`, ...given };
  const result = await mcp.call("place_call", args);
  await showResult(card, args, result);
  return result;
}

/** Presses a button that stands still: the host makes the frame as long as the card. */
const press = async (card, name) => {
  const button = await card.frame.waitForSelector(`#button-${name}`);
  let before = "";
  await until(`a button ${name} that stands still`, async () => {
    await button.scrollIntoView();
    await new Promise((resolve) => setTimeout(resolve, 150));
    const place = JSON.stringify(await button.boundingBox());
    const stands = place === before;
    before = place;
    return stands;
  });
  await button.click();
};
const waitUntilReady = (card) => until("a button that works",
  async () => card.frame.$eval("#button-yes", (button) => button.getAttribute("aria-disabled") === "false"));
/** Reads the preview to its end; the host makes the frame longer meanwhile. */
const readToEnd = (card) => until("the end of the preview", async () => {
  await card.page.evaluate(() => window.scrollBy(0, window.innerHeight / 2));
  return card.frame.$eval("#button-yes", (button) => button.getAttribute("aria-disabled") === "false");
});

// ---- Every ending of the simulator's table ---------------------------------------------------------------------
const ENDINGS = [
  ["0100", "completed", "Completed"], ["0101", "no_answer", "No answer"], ["0102", "busy", "Busy"], ["0103", "voicemail", "Voicemail"],
  ["0104", "failed", "Failed"], ["0105", "completed", "Completed"], ["0106", "canceled", "Canceled"], ["0108", "completed", "Completed"],
  ["0109", "completed", "Completed"], ["0110", "refused", "Not called"], ["0111", "refused", "Not called"],
  ["0112", "completed", "Completed"], ["0113", "completed", "Completed"], ["0114", "completed", "Completed"],
  ["0115", "unknown", "Not known"], ["0116", "completed", "Completed"],
];

const tests = {};

for (const [digits, state, status] of ENDINGS) {
  tests[`ending ${digits}: ${state}`] = async () => {
    const card = await openCard();
    const args = { agent_id: agent, to: `+1310555${digits}`, allow_repeat: true };
    const placed = await placeCall(card, args);
    const seen = await waitForState(card.frame, state);
    assert.equal(seen.status, status);
    assert.equal(seen.simulated, "SIMULATED");
    assert.match(seen.title, /310 555/);
    await checkAccessibility(card.frame, digits);
    await takePicture(card.frame, `ending-${digits}`);
    if (placed.structuredContent?.call_id) {
      const { call_id } = placed.structuredContent;
      await card.frame.waitForSelector("#card[data-final]");
      const report = await client.data("get_call_result", { call_id, wait_seconds: 60 });
      const settled = await until("the whole result", async () => {
        const now = await look(card.frame);
        const names = Object.keys(report.result ?? {});
        return now.result.filter(([name]) => names.includes(name)).length === names.length && now;
      });
      const said = await client.data("get_call_transcript", { call_id });
      assert.equal(settled.lines.length, said.total_lines, "every line, once");
      for (const [index, line] of said.transcript.split("\n").filter((line) => /^\[\d+\]/.test(line)).entries()) {
        // The tool writes each utterance on one line.
        const plain = (text) => text.replace(/\\u\{[0-9A-F]+\}|\s+/g, "");
        assert(plain(line).endsWith(plain(settled.lines[index][1])), `${line} is not ${settled.lines[index]}`);
      }
      if (report.result) {
        for (const [name, value] of settled.result) {
          if (report.result[name] === null) assert.equal(value, "not talked about");
          if (typeof report.result[name] === "string") assert.equal(value, report.result[name]);
        }
        assert.match(settled.facts, /Length[\s\S]*Cost[\s\S]*\$0\.\d\d/);
      }
      const context = await until("what the model learns", () => card.requests("ui/update-model-context")[0]);
      assert(context.params.content[0].text.includes(report.outcome), JSON.stringify(context));
    } else {
      assert(seen.note.length > 20, seen.note);
    }
    await closeCard(card);
  };
}

tests["ending 0107: a long call runs, with a clock and a cost, and cannot be hung up"] = async () => {
  const card = await openCard();
  await placeCall(card, { agent_id: agent, to: "+13105550107" });
  const seen = await waitForState(card.frame, "talking");
  assert.match(seen.hint, /cannot be hung up/);
  const grown = await until("lines and a cost", async () => {
    const now = await look(card.frame);
    return now.lines.length >= 8 && now.facts.includes("about $") && now.clock && now;
  });
  assert(grown.shownLines <= 5, "the last lines");
  await takePicture(card.frame, "talking-light");
  await press(card, "mode");
  await until("all lines", async () => (await look(card.frame)).shownLines >= 8);
  await checkAccessibility(card.frame, "0107");
  // Teardown: it is answered at once, and nothing more is asked.
  const answered = card.sent.length;
  await card.page.evaluate(() => window.send({ jsonrpc: "2.0", id: "end", method: "ui/resource-teardown", params: {} }));
  await until("the answer to the teardown", () => card.sent.slice(answered).find((message) => message.id === "end"));
  const calls = card.requests("tools/call").length;
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.equal(card.requests("tools/call").length, calls);
  await closeCard(card);
};

tests["a hostile callee: markup is text and runs nothing"] = async () => {
  const attack = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script><b>bold</b>";
  const card = await openCard({
    answers: {
      "tools/call": () => ({
        content: [{ type: "text", text: "card" }],
        structuredContent: { call_id: "c", outcome: "completed", status: "completed", final: true, state: "s", lines: 1, has_more: false },
        _meta: {
          "callingbox-mcp/lines": [{ sequence_no: 1, speaker: attack, text: attack }],
          "callingbox-mcp/call": { outcome: "completed", status: "completed", result: { [attack]: attack }, agent_name: attack,
            result_problems: [`\`${attack}\` is ${attack}`], to_number: attack, task: attack, connected_seconds: 5 },
        },
      }),
    },
  });
  await showResult(card, { to: attack }, { content: [], structuredContent: { call_id: "c", outcome: "in_progress" } });
  const seen = await waitForState(card.frame, "completed");
  assert.equal(seen.lines[0][1], attack);
  assert.equal(seen.result[0][0], attack);
  assert.equal(await card.frame.evaluate(() => window.hacked ?? document.querySelectorAll("img, b, #card script").length), 0);
  await closeCard(card);
};

tests["problems of the result stand beside their field"] = async () => {
  const card = await openCard({
    answers: {
      "tools/call": () => ({
        content: [], structuredContent: { call_id: "c", outcome: "completed", final: true, state: "s", has_more: false },
        _meta: {
          "callingbox-mcp/lines": [],
          "callingbox-mcp/call": { outcome: "completed", status: "completed", result: { confirmed: "yes", party_size: 4 }, to_number: "+13105550100",
            result_problems: ["`confirmed` should be a boolean and is a string", "`new_time` is missing"] },
        },
      }),
    },
  });
  await showResult(card, {}, { content: [], structuredContent: { call_id: "c", outcome: "in_progress" } });
  const { result } = await waitForState(card.frame, "completed");
  assert.deepEqual(result, [["confirmed", "yes\nshould be a boolean and is a string"], ["party_size", "4"], ["new_time", "\nis missing"]]
    .map(([name, value]) => [name, value.replace(/^\n/, "")]));
  await checkAccessibility(card.frame, "problems");
  await closeCard(card);
};

// ---- Looks -----------------------------------------------------------------------------------------------------
tests["dark, 320 px, full width, host colors, a fixed height, another locale"] = async () => {
  const placed = await client.call("place_call", { agent_id: agent, to: "+13105550100", allow_repeat: true });
  await client.data("get_call_result", { call_id: placed.structuredContent.call_id, wait_seconds: 60 });
  for (const [name, options] of [
    ["ended-light", {}],
    ["ended-dark", { context: { theme: "dark" } }],
    ["ended-dark-by-the-system", { context: { theme: undefined }, prefers: "dark" }],
    ["ended-320", { width: 320 }],
    ["ended-1200", { width: 1200, context: { displayMode: "fullscreen" } }],
    ["ended-fixed", { context: { containerDimensions: { height: 400, width: 480 } } }],
    ["ended-host-colors", { context: { theme: "dark", styles: { variables: {
      "--color-text-primary": "light-dark(#111111, #fafafa)", "--color-background-secondary": "light-dark(rgb(240, 240, 240), rgb(40, 40, 44))",
    } } } }],
    ["ended-german", { context: { locale: "de-DE", timeZone: "Europe/Berlin" } }],
  ]) {
    const card = await openCard(options);
    await showResult(card, {}, placed);
    await waitForState(card.frame, "completed");
    const seen = await until("the result", async () => { const now = await look(card.frame); return now.result.length >= 3 && now; });
    const overflow = await card.frame.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert(overflow <= 0, `${name} is ${overflow} px too wide`);
    const small = await card.frame.$$eval("#buttons button", (all) => all.filter((button) => button.getBoundingClientRect().height < 44).length);
    assert.equal(small, 0, "every button can be hit by a finger");
    if (name === "ended-german") assert.match(seen.facts, /0,\d+\s*\$/);
    if (name === "ended-host-colors") {
      assert.equal(await card.frame.evaluate(() => getComputedStyle(document.body).color), "rgb(250, 250, 250)");
    }
    if (name === "ended-fixed") {
      const { height, scrolls } = await card.frame.evaluate(() => ({ height: document.getElementById("card").offsetHeight,
        scrolls: document.getElementById("talk").scrollHeight > document.getElementById("talk").clientHeight }));
      assert(height <= 400 && scrolls, `${height}`);
    }
    await checkAccessibility(card.frame, name);
    await takePicture(card.frame, name);
    await closeCard(card);
  }
};

tests["the keyboard reaches every button, and the focus stays"] = async () => {
  const card = await openCard();
  await placeCall(card, { agent_id: agent, to: "+13105550100", allow_repeat: true });
  await waitForState(card.frame, "completed");
  await until("the buttons", async () => (await look(card.frame)).buttons.includes("Ask about this call"));
  const { buttons } = await look(card.frame);
  const reached = [];
  for (let step = 0; step < buttons.length + 4 && reached.length < buttons.length; step += 1) {
    await card.page.keyboard.press("Tab");
    const text = await card.frame.evaluate(() => (document.activeElement.closest("#buttons") ? document.activeElement.innerText : ""));
    if (text && !reached.includes(text)) reached.push(text);
  }
  assert.deepEqual(reached, buttons);
  await card.frame.focus("#button-ask");
  await card.page.keyboard.press("Enter");
  const message = await until("a message", () => card.requests("ui/message")[0]);
  assert.equal(message.params.role, "user");
  assert(Array.isArray(message.params.content));
  await card.notify("ui/notifications/host-context-changed", { theme: "dark" });
  assert.equal(await card.frame.evaluate(() => document.activeElement.id), "button-ask");
  await card.frame.focus("#button-save");
  await card.page.keyboard.press("Space");
  const saved = await until("a file", () => card.requests("ui/download-file")[0]);
  assert(saved.params.contents[0].resource.text.includes("Agent: "));
  await closeCard(card);
};

// ---- Hosts that can do little ----------------------------------------------------------------------------------
tests["a host that answers everything but tools/call with -32601 shows the whole card"] = async () => {
  const card = await openCard({ refuse: (method) => method !== "tools/call" });
  await placeCall(card, { agent_id: agent, to: "+13105550100", allow_repeat: true });
  const seen = await waitForState(card.frame, "completed");
  await until("the result", async () => (await look(card.frame)).result.length >= 3);
  assert(seen.lines.length > 4);
  const { buttons } = await look(card.frame);
  assert.deepEqual(buttons, ["Copy transcript"]);
  await closeCard(card);
};

tests["a host that refuses tools/call shows the stored result"] = async () => {
  const card = await openCard({ refuse: (method) => method === "tools/call" });
  await placeCall(card, { agent_id: agent, to: "+13105550100", allow_repeat: true });
  const seen = await waitForState(card.frame, "in_progress");
  assert.match(seen.note, /cannot follow/);
  assert.equal(seen.status, "Placed");
  await checkAccessibility(card.frame, "refused");
  const calls = card.requests("tools/call").length;
  assert.equal(calls, 1, "it does not try again");
  await closeCard(card);
};

tests["a view that is cancelled does not say that the telephone is silent"] = async () => {
  const card = await openCard();
  await card.notify("ui/notifications/tool-input", { arguments: { to: "+13105550100" } });
  await card.notify("ui/notifications/tool-cancelled", { reason: "stop" });
  const seen = await waitForState(card.frame, "unknown");
  assert.match(seen.note, /may be ringing/);
  await closeCard(card);
};

// ---- The yes ---------------------------------------------------------------------------------------------------
/** A question in the card; each is about another number, so that no order repeats another. */
async function ask(options = {}) {
  order += 1;
  const args = { agent_id: carefulAgent, to: `+131055501${String(20 + order)}`, instructions: "Ask whether Tuesday at three suits them." };
  const recorded = [];
  const mcp = {
    call: async (name, given) => {
      const result = await careful.call(name, given);
      recorded.push({ name, given, result });
      return result;
    },
  };
  const card = await openCard({ mcp, ...options });
  const result = await mcp.call("place_call", args);
  const token = result._meta["callingbox-mcp/confirm"].token;
  await showResult(card, { ...args, to: "+19995550000" }, options.change ? options.change(result) : result);
  return { card, args, token, recorded, result };
}

tests["yes: the call that was shown is placed and seen, and the token goes nowhere else"] = async () => {
  const { card, args, token, recorded } = await ask();
  const seen = await waitForState(card.frame, "asking");
  assert.match(seen.title, /^Place a phone call/);
  assert.deepEqual(seen.asked[0], ["To", args.to], "what the server understood, and not what the host says was asked for");
  assert(seen.asked.some(([name, value]) => name === "Task" && value === args.instructions));
  assert(seen.asked.some(([name]) => name === "Local time there"));
  // Too early, and not by a person.
  await card.frame.$eval("#button-yes", (button) => button.click());
  await until("the report", () => recorded.some(({ given }) => given.question_id));
  await waitUntilReady(card);
  await card.frame.$eval("#button-yes", (button) => button.click());
  assert.equal((await look(card.frame)).state, "asking", "a click that no person made");
  await checkAccessibility(card.frame, "asking");
  await takePicture(card.frame, "asking-light");
  await press(card, "yes");
  await waitForState(card.frame, "ringing", "talking", "extracting", "completed");
  const confirmed = recorded.filter(({ name }) => name === "confirm_call");
  assert.deepEqual(confirmed.map(({ given }) => given.accept), [true]);
  const { call_id } = confirmed[0].result.structuredContent;
  assert.equal((await careful.data("get_call_result", { call_id, wait_seconds: 0 })).to_number, args.to);
  const told = await until("a message to the model", () => card.requests("ui/message")[0]);
  assert(told.params.content[0].text.includes(call_id));
  await waitForState(card.frame, "completed");
  // The token is in one place of one answer, and goes back in confirm_call.
  for (const { name, given, result } of recorded) {
    const count = JSON.stringify(result).split(token).length - 1;
    assert.equal(count, name === "place_call" ? 1 : 0, name);
    assert.equal(JSON.stringify(given).includes(token), name === "confirm_call", name);
  }
  for (const message of card.sent) {
    const isAnswer = message.method === "tools/call" && message.params.name === "confirm_call";
    assert.equal(JSON.stringify(message).includes(token), isAnswer, JSON.stringify(message));
  }
  assert(!(await card.frame.evaluate(() => document.documentElement.outerHTML)).includes(token));
  await closeCard(card);
};

tests["yes by the keyboard"] = async () => {
  const { card } = await ask({ context: { theme: "dark" } });
  await waitForState(card.frame, "asking");
  await waitUntilReady(card);
  await checkAccessibility(card.frame, "asking in the dark");
  await takePicture(card.frame, "asking-dark");
  await card.frame.focus("#button-yes");
  await waitUntilReady(card);
  await card.page.keyboard.press("Enter");
  await waitForState(card.frame, "placing", "ringing", "talking", "extracting", "completed");
  await closeCard(card);
};

tests["no: nobody is called, and the answer stays"] = async () => {
  const { card, token, args, result, recorded } = await ask();
  await waitForState(card.frame, "asking");
  await waitUntilReady(card);
  await press(card, "no");
  const seen = await waitForState(card.frame, "declined");
  assert.equal(seen.status, "Not called");
  assert.deepEqual(recorded.filter(({ name }) => name === "confirm_call").map(({ given }) => given.accept), [false]);
  await checkAccessibility(card.frame, "declined");
  await takePicture(card.frame, "declined");
  const { arguments: normalized } = result._meta["callingbox-mcp/confirm"];
  const late = await careful.data("confirm_call", { tool: "place_call", arguments: normalized, token, accept: true });
  assert.deepEqual(late, { declined: true });
  const { calls } = await careful.data("list_calls", { limit: 100 });
  assert(!calls.some((call) => call.to_number === args.to));
  await closeCard(card);
  // The host shows the stored result again: the card finds out that it was answered.
  const again = await openCard({ mcp: careful });
  await showResult(again, args, result);
  await waitForState(again.frame, "declined");
  await closeCard(again);
};

tests["an expired question has no buttons"] = async () => {
  const change = (result) => {
    const changed = structuredClone(result);
    changed._meta["callingbox-mcp/confirm"].expires_at = "2026-01-01T00:00:00Z";
    return changed;
  };
  const { card } = await ask({ change });
  const seen = await waitForState(card.frame, "expired");
  assert.deepEqual(seen.buttons, []);
  await checkAccessibility(card.frame, "expired");
  await closeCard(card);
};

tests["a token that was changed places nothing"] = async () => {
  const change = (result) => {
    const changed = structuredClone(result);
    changed._meta["callingbox-mcp/confirm"].token = "0".repeat(48);
    return changed;
  };
  const { card, args } = await ask({ change });
  await waitForState(card.frame, "asking");
  await waitUntilReady(card);
  await press(card, "yes");
  const seen = await waitForState(card.frame, "refused");
  assert.match(seen.note, /Nobody was called/);
  const { calls } = await careful.data("list_calls", { limit: 100 });
  assert(!calls.some((call) => call.to_number === args.to));
  await closeCard(card);
};

tests["the buttons wait until a long preview was seen whole"] = async () => {
  const { card, recorded } = await ask({
    width: 320,
    change: (result) => {
      const changed = structuredClone(result);
      const { fields } = changed._meta["callingbox-mcp/confirm"].shown;
      fields.push({ name: "Facts", value: "A fact.\n".repeat(120) });
      return changed;
    },
  });
  await waitForState(card.frame, "asking");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const ready = () => card.frame.$eval("#button-yes", (button) => button.getAttribute("aria-disabled"));
  assert.equal(await ready(), "true");
  await card.page.evaluate(() => window.scrollTo(0, document.body.scrollHeight));
  await waitUntilReady(card);
  // The focus comes back from elsewhere: the time begins anew.
  await card.frame.evaluate(() => window.dispatchEvent(new Event("focus")));
  assert.equal(await ready(), "true");
  await waitUntilReady(card);
  assert(recorded.every(({ name }) => name !== "confirm_call"));
  await closeCard(card);
};

tests["a host that cannot pass the answer says so"] = async () => {
  const { card } = await ask({ refuse: (method, params) => method === "tools/call" && params.name === "confirm_call" });
  await waitForState(card.frame, "asking");
  await waitUntilReady(card);
  await press(card, "yes");
  const seen = await waitForState(card.frame, "refused");
  assert.match(seen.note, /does not let the card answer/);
  await closeCard(card);
};

// ---- The list --------------------------------------------------------------------------------------------------
const people = [
  { to: "+13105550100", name: "Ada Park" }, { to: "+13105550101", name: "Ben Ortiz" }, { to: "+12125550100", name: "=1+1" },
  { to: "+12125550102", name: "Dan Fox" }, { to: "+14155550103", name: "Eva Lind" },
];

tests["a list: one yes, a table that fills, each call, and a file"] = async () => {
  const card = await openCard({ mcp: careful });
  const args = { agent_id: carefulAgent, people, instructions: "Remind {name} of the appointment.", allow_repeat: true };
  await showResult(card, args, await careful.call("place_calls", args));
  const asked = await waitForState(card.frame, "asking");
  assert.equal(asked.buttons[0], "Call 5 people");
  assert(asked.asked.some(([name, value]) => name === "People" && value.includes("Dan Fox")));
  await readToEnd(card);
  await checkAccessibility(card.frame, "asking about a list");
  await takePicture(card.frame, "asking-list");
  await press(card, "yes");
  await waitForState(card.frame, "batch");
  const rows = () => card.frame.$$eval("#rows tbody tr", (all) => all.map((row) => [...row.cells].map((cell) => cell.innerText)));
  await until("the first rows", async () => (await rows()).length === 5);
  await takePicture(card.frame, "list-running");
  await card.frame.waitForSelector("#card[data-final]", { timeout: 60_000 });
  const filled = await rows();
  assert.deepEqual(filled.map(([, state]) => state), ["Completed", "No answer", "Completed", "Busy", "Voicemail"]);
  const heads = await card.frame.$$eval("#rows th", (all) => all.map((head) => head.innerText));
  assert(heads.includes("confirmed"), heads.join());
  assert.equal(await card.frame.$eval("#bar", (bar) => bar.value / bar.max), 1);
  const seen = await look(card.frame);
  assert.equal(seen.title, "List of 5 people");
  assert.match(seen.facts, /Done\s*5[\s\S]*Cost\s*\$0/);
  await checkAccessibility(card.frame, "list");
  await takePicture(card.frame, "list-ended");
  await press(card, "csv");
  const { resource } = (await until("a file", () => card.requests("ui/download-file")[0])).params.contents[0];
  const lines = resource.text.split("\r\n");
  assert.equal(lines.length, 6);
  assert.match(lines[1], /^1,Ada Park,\+13105550100,Completed,/);
  assert.match(lines[3], /^3,'=1\+1,/, "a formula is none");
  await (await card.frame.$("#row-1")).click();
  await card.frame.waitForSelector("#card[data-state=completed][data-final]");
  const call = await look(card.frame);
  assert(call.lines.length > 4 && call.result.length >= 3, JSON.stringify(call));
  await press(card, "back");
  await waitForState(card.frame, "batch");
  await closeCard(card);
  // A narrow host that can do little.
  const result = await careful.call("place_calls", { agent_id: carefulAgent, people: people.slice(1, 3), instructions: "Hello {name}.", allow_repeat: true });
  const narrow = await openCard({ mcp: careful, width: 320, context: { theme: "dark" }, capabilities: {} });
  await showResult(narrow, {}, result);
  await waitForState(narrow.frame, "asking");
  await readToEnd(narrow);
  await press(narrow, "yes");
  await narrow.frame.waitForSelector("#card[data-state=batch][data-final]", { timeout: 60_000 });
  const overflow = await narrow.frame.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert(overflow <= 0, `${overflow} px too wide`);
  assert((await look(narrow.frame)).buttons.includes("Copy CSV"));
  await checkAccessibility(narrow.frame, "list, 320 px, dark");
  await takePicture(narrow.frame, "list-320");
  await closeCard(narrow);
};

tests["a long list is read to its end before its buttons work, and shows everybody"] = async () => {
  const many = Array.from({ length: 60 }, (_, index) => ({ to: `+1${213 + index}5550101`, name: `Person ${index + 1}` }));
  const card = await openCard({ mcp: careful, width: 320 });
  const args = { agent_id: carefulAgent, people: many, instructions: "Hello {name}.", allow_repeat: true };
  await showResult(card, args, await careful.call("place_calls", args));
  const asked = await waitForState(card.frame, "asking");
  assert.equal(asked.buttons[0], "Call 60 people");
  assert(asked.asked.some(([name, value]) => name === "People" && value.includes("Person 60")), "everybody is named");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.equal(await card.frame.$eval("#button-yes", (button) => button.getAttribute("aria-disabled")), "true");
  await readToEnd(card);
  await press(card, "yes");
  await waitForState(card.frame, "batch");
  const count = () => card.frame.$$eval("#rows tbody tr", (all) => all.length);
  assert.equal(await until("the first people", count), 12);
  await (await card.frame.$("#more")).click();
  await until("everybody", async () => await count() === 60);
  const overflow = await card.frame.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert(overflow <= 0, `${overflow} px too wide`);
  await checkAccessibility(card.frame, "a long list");
  await closeCard(card);
};

tests["a purchase is confirmed and shown"] = async () => {
  const { numbers } = await careful.data("search_numbers", { limit: 1, area_code: "212" });
  const card = await openCard({ mcp: careful });
  const args = { phone_number: numbers[0].phone_number };
  await showResult(card, args, await careful.call("purchase_number", args));
  const seen = await waitForState(card.frame, "asking");
  assert.match(seen.title, /^Buy the phone number/);
  assert.deepEqual(seen.buttons.slice(0, 2), ["Buy", "Don’t buy"]);
  await waitUntilReady(card);
  await press(card, "yes");
  await waitForState(card.frame, "bought");
  await checkAccessibility(card.frame, "bought");
  await takePicture(card.frame, "bought");
  await closeCard(card);
};

// ----------------------------------------------------------------------------------------------------------------
const wanted = process.argv[2] ?? "";
let failed = 0;
for (const [name, test] of Object.entries(tests).filter(([name]) => name.includes(wanted))) {
  const begun = Date.now();
  try {
    await test();
    console.log(`ok ${name} (${Date.now() - begun} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}\n${error.stack}`);
  }
}
await browser.close();
process.exit(failed > 0 ? 1 : 0);

// Runs the main job with the official TypeScript SDK 1.x over streamable HTTP or HTTP+SSE.
// Usage: typescript_job.mjs PACKAGES http|sse BASE     BASE is a new server on the simulator that confirms every call
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, way, base] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const load = (part) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/${part}`)));
const { Client } = await load("client/index.js");
const { StreamableHTTPClientTransport } = await load("client/streamableHttp.js");
const { SSEClientTransport } = await load("client/sse.js");
const { ElicitRequestSchema } = await load("types.js");

const transport = way === "http"
  ? new StreamableHTTPClientTransport(new URL(`${base}/mcp`))
  : new SSEClientTransport(new URL(`${base}/sse`));
const client = new Client({ name: "proof", version: "1" }, { capabilities: { elicitation: {} } });
let says = true;
let asked = [];
client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
  asked.push(params.message);
  return says ? { action: "accept", content: { confirm: true } } : { action: "decline" };
});
await client.connect(transport);
const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
const data = async (name, args) => {
  const answer = await call(name, args);
  assert(!answer.isError, JSON.stringify(answer));
  return answer.structuredContent;
};

// The SDK has listed the tools, so it checks each result against the output schema.
const { tools } = await client.listTools();
assert(tools.some((tool) => tool.name === "place_call"));
const found = await data("search_numbers", { country_code: "US", area_code: "415" });
const agent = await data("create_agent", {
  name: "Reminders", type: "outbound", instructions: "Remind them of the appointment.",
  returns: { confirmed: "boolean" },
});
const { number } = await data("purchase_number", { phone_number: found.numbers[0].phone_number });
await data("set_agent_numbers", { agent_id: agent.agent_id, attach: [number.number_id] });

const words = { agent_id: agent.agent_id, instructions: "Remind them of Tuesday at three." };
[says, asked] = [false, []];
const refused = await call("place_call", { ...words, to: "+12025550123" });
assert(refused.isError && refused.content[0].text.includes("Nobody was called"));
assert(asked.length === 1 && asked[0].includes("To: +12025550123"), asked.join());
says = true;
const placed = await data("place_call", { ...words, to: "+12025550123" });
assert.deepEqual([placed.outcome, placed.simulated, asked.length], ["in_progress", true, 2]);

const told = [];
const onprogress = ({ progress }) => told.push(progress);
const ended = await call(
  "get_call_result", { call_id: placed.call_id, wait_seconds: 60 }, { onprogress, timeout: 90_000 },
);
assert.equal(ended.structuredContent.outcome, "completed");
assert(told.length >= 3 && told.every((one, at) => at === 0 || one > told[at - 1]), told.join());

const long = await data("place_call", { ...words, to: "+12025550107" });
const signal = AbortSignal.timeout(1000);
await assert.rejects(call("get_call_result", { call_id: long.call_id, wait_seconds: 60 }, { signal }));
// Only the wait was cancelled: the session and the call go on.
const now = await data("get_call_result", { call_id: long.call_id, wait_seconds: 0 });
assert.equal(now.outcome, "in_progress");

const wrong = await call("get_call_result", { call_id: "no-such-call" });
assert(wrong.isError && wrong.content[0].text.includes("no-such-call"));
await assert.rejects(call("no_such_tool", {}), { code: -32602 });
await client.close();
console.log("ok");

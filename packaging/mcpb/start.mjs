// Starts an unpacked bundle as a client does, once for each answer a user may give, and lists and
// calls its tools.   node start.mjs MCPB_LIBRARY FOLDER
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [library, folder] = process.argv.slice(2).map((path) => resolve(path));
const { getMcpConfigForManifest } = await import(pathToFileURL(library));
const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));

async function session(userConfig) {
  const config = await getMcpConfigForManifest({
    manifest, extensionPath: folder, systemDirs: {}, userConfig, pathSeparator: "/",
  });
  const home = mkdtempSync(join(tmpdir(), "callingbox-mcpb-"));
  const child = spawn(config.command, config.args, {
    env: { HOME: home, APPDATA: home, LOCALAPPDATA: home, USERPROFILE: home, ...config.env },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const waiting = new Map();
  const dead = new Promise((_, fail) => {
    child.on("error", fail);
    child.on("exit", (code) => fail(new Error(`the server ended (${code})`)));
    setTimeout(() => fail(new Error("the server did not answer in 30 s")), 30_000).unref();
  });
  dead.catch(() => {});
  createInterface({ input: child.stdout }).on("line", (line) => {
    const message = JSON.parse(line);
    waiting.get(message.id)?.(message);
  });
  const send = (message) => child.stdin.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");
  let id = 0;
  const ask = async (method, params) => {
    const answer = new Promise((done) => waiting.set(++id, done));
    send({ id, method, params });
    const { result, error } = await Promise.race([answer, dead]);
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  };
  await ask("initialize", {
    protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "pack", version: "1" },
  });
  send({ method: "notifications/initialized" });
  const { tools } = await ask("tools/list", {});
  const { isError = false } = await ask("tools/call", { name: "list_agents", arguments: {} });
  const ended = new Promise((done) => child.once("close", done));
  child.kill();
  await ended;
  rmSync(home, { recursive: true });
  return { names: tools.map((tool) => tool.name), tools, isError };
}

function must(holds, what) {
  if (!holds) throw new Error(what);
}

const plain = await session({});
must(plain.names.length > 0, "the bundle lists no tools");
must(plain.isError, "without a key and a sandbox a call must say so");
const sandbox = await session({ sandbox: true });
must(!sandbox.isError, "the sandbox needs no key");
must(sandbox.names.includes("place_call"), "the sandbox offers place_call");
const readOnly = await session({ sandbox: true, read_only: true });
must(readOnly.names.length > 0, "read only lists no tools");
must(readOnly.tools.every((tool) => tool.annotations?.readOnlyHint === true), "read only offers a tool that writes");
console.log(`${plain.names.length} tools, ${readOnly.names.length} of them read only`);

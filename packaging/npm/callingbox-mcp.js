#!/usr/bin/env node
// Runs the program of the platform package that npm installed beside this one. It knows nothing of MCP: standard
// input and output, arguments, signals and the exit code are those of the program.
"use strict";

const { spawn } = require("node:child_process");
const { constants } = require("node:os");
const platforms = require("./platforms.json");

function installedProgram() {
  const fitting = platforms.filter(({ os, cpu }) => os === process.platform && cpu.includes(process.arch));
  // A system without glibc has musl. The static program runs on both, so it is the second choice with glibc.
  const hasGlibc = Boolean(process.report?.getReport().header.glibcVersionRuntime);
  const usable = fitting.filter(({ libc }) => libc !== "glibc" || hasGlibc);
  for (const { name, program } of usable) {
    try {
      return require.resolve(`${name}/${program}`);
    } catch {
      // npm leaves optional dependencies of other systems out.
    }
  }
  const system = `${process.platform} on ${process.arch}`;
  const problem = usable.length === 0
    ? `there is no program for ${system}; build it from source: https://github.com/callingbox/callingbox-mcp`
    : `${usable[0].name} is missing; install again without --omit=optional and --no-optional`;
  console.error(`callingbox-mcp: ${problem}`);
  process.exit(1);
}

const child = spawn(installedProgram(), process.argv.slice(2), { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  // A terminal sends SIGINT to the child as well, which ends in order; the launcher waits for it.
  process.on(signal, () => signal === "SIGINT" || child.kill(signal));
}
child.on("error", (error) => {
  console.error(`callingbox-mcp: cannot start the program: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));

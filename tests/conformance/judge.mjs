// Evaluates the results of the conformance suite: node judge.mjs EXPECTED RUN=FOLDER…
//
// Counts checks, not scenarios: a scenario proves nothing unless one of its own checks succeeded (each has
// `wire-schema-valid` too, which also succeeds for an error). Each check without success must be in EXPECTED with a
// reason, and each line of EXPECTED must still occur.
import { existsSync, readFileSync, readdirSync } from 'node:fs';

const [expectedFile, ...runs] = process.argv.slice(2);
const expected = new Map();
for (const line of readFileSync(expectedFile, 'utf8').split('\n')) {
  if (line === '' || line.startsWith('#')) continue;
  const [who, scenario, check, status, reason] = line.split('\t');
  if (!reason?.trim()) throw new Error(`line without a reason: ${line}`);
  expected.set([who, scenario, check, status].join('\t'), reason);
}

const met = new Set();
let bad = 0;
for (const run of runs) {
  const [who, folder] = run.split('=');
  let scenarios = 0;
  let passed = 0;
  for (const name of readdirSync(folder).sort()) {
    const scenario = name.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT.*$/, '');
    const file = `${folder}/${name}/checks.json`;
    // A scenario that was aborted has no file and proves nothing.
    const checks = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : [];
    const succeeded = checks.filter((check) => check.status === 'SUCCESS');
    const others = checks.filter((check) => !['SUCCESS', 'INFO'].includes(check.status));
    if (!succeeded.some((check) => check.id !== 'wire-schema-valid')) {
      others.push({ id: '*', status: 'EMPTY', errorMessage: 'none of its own checks succeeded' });
    }
    scenarios += 1;
    passed += succeeded.length;
    for (const { id, status, errorMessage } of others) {
      const key = [who, scenario, id, status].join('\t');
      met.add(key);
      if (expected.has(key)) continue;
      bad += 1;
      console.log(`unexpected\t${key}\t${errorMessage ?? ''}`);
    }
  }
  if (scenarios === 0) {
    bad += 1;
    console.log(`unexpected\t${who}: no scenario ran`);
  }
  console.log(`${who}: ${scenarios} scenarios, ${passed} checks passed`);
}
const names = runs.map((run) => run.split('=')[0]);
for (const key of expected.keys()) {
  if (!met.has(key) && names.includes(key.split('\t')[0])) {
    bad += 1;
    console.log(`stale: expected but did not occur\t${key}`);
  }
}
process.exit(bad === 0 ? 0 : 1);

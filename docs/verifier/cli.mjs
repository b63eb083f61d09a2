#!/usr/bin/env node
// node cli.mjs EVIDENCE --trust TRUST [--json]      exit code 0: every step holds, 1: one does not, 2: no verdict
// node cli.mjs --batch < LINES                      each line {"evidence": base64, "trust": base64}; a verdict each
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { verify } from "./verify.mjs";

const USAGE = "usage: node cli.mjs EVIDENCE --trust TRUST [--json]";
const OPTIONS = { trust: { type: "string" }, json: { type: "boolean" }, batch: { type: "boolean" } };

/** Words from the files reach a terminal: nothing in them may move its cursor. */
const plain = (text) => text.replace(/[^\P{C} ]|[\p{Zl}\p{Zp}]/gu, (odd) => `\\u{${odd.codePointAt(0).toString(16)}}`);
const timeOf = (unix) => (unix < 253402300800n ? new Date(Number(unix) * 1000).toISOString() : `second ${unix}`);
const toJson = (verdict, indent) =>
  JSON.stringify(verdict, (_, value) => (typeof value === "bigint" ? String(value) : value), indent);

function inWords({ holds, broken, why, found }) {
  if (!holds) return [`BROKEN at "${broken}": ${why}`];
  const lines = ["HOLDS: the record is in the log that the trust file names."];
  for (const { name, time } of found.cosigned) lines.push(`  cosigned by ${name}, at ${timeOf(time)} by its clock`);
  for (const { did, key, ended, since } of found.signers ?? []) {
    lines.push(`  signed by ${did} with its key ${key}, valid when the event was judged`);
    if (ended) lines.push("  warning: that key has ended since");
    if (since !== null) lines.push(`  warning: that key is marked as compromised since ${timeOf(since / 1_000_000n)}`);
  }
  if (found.isLedgerKnown) lines.push("  anchored on the ledger: the chain reaches a running hash of the trust file");
  lines.push("Not proven:");
  if (found.signers === null) lines.push("  who signed it: the value is withheld, or it is no device's event");
  else lines.push("  that no registry entry left out of the file had ended these keys before");
  if (!found.cosigned.length) lines.push("  the time, and that others see the same log: no known witness cosigned");
  if (found.isLedgerKnown === null) lines.push("  that the root was anchored: the file has no receipt");
  if (found.isLedgerKnown === false) lines.push("  the ledger receipt: a mirror's unsigned word");
  return [...lines, "  completeness: that the device sent nothing else"];
}

function quit(message) {
  console.error(message);
  process.exit(2);
}

async function runBatch() {
  for await (const line of createInterface({ input: process.stdin })) {
    const { evidence, trust } = JSON.parse(line);
    console.log(toJson(verify(Buffer.from(evidence, "base64"), Buffer.from(trust, "base64"))));
  }
}

try {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
  if (values.batch) await runBatch();
  else if (positionals.length !== 1 || values.trust === undefined) quit(USAGE);
  else {
    const verdict = verify(readFileSync(positionals[0]), readFileSync(values.trust));
    console.log(values.json ? toJson(verdict, 2) : inWords(verdict).map(plain).join("\n"));
    process.exitCode = verdict.holds ? 0 : 1;
  }
} catch (error) {
  quit(error.code ? error.message : error.stack);
}

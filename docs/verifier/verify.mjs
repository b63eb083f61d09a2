// Verifies an attestream evidence file against a trust file, from their bytes alone: no clock, file or network.
// Written from docs/formats.md; it shares no code with the Python verifier. Runs in Node 20 and in browsers.
import { ed25519 } from "@noble/curves/ed25519.js";
import { bytesToHex as toHex, concatBytes as join, hexToBytes as fromHex } from "@noble/curves/utils.js";
import { bytesToNumberBE, numberToBytesBE as uint } from "@noble/curves/utils.js"; // uint(number, bytes)
import { blake3 } from "@noble/hashes/blake3.js";
import { sha256, sha384 } from "@noble/hashes/sha2.js";
import { BYTES, DOUBLE, LONG, SCHEMAS, STRING } from "./schemas.mjs";

class Broken extends Error {} // a step does not hold, or a file is malformed; the message says why
const fail = (message) => { throw new Broken(message); };
const check = (holds, message) => Boolean(holds) || fail(message);
const attempt = (work, message) => { try { return work(); } catch { return fail(message); } };
const equal = (a, b) => a?.length === b.length && b.every((byte, at) => byte === a[at]);
const isHash = (bytes) => bytes.length === 32;
const toUtf8 = (text) => new TextEncoder().encode(text);
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const fromUtf8 = (bytes, what) => attempt(() => decoder.decode(bytes), `${what} is not UTF-8`);
const MAX_NUMBER = (1n << 63n) - 1n;
const isDecimal = (text, most = MAX_NUMBER) => /^(0|[1-9][0-9]{0,19})$/.test(text) && BigInt(text) <= most;
function fromBase64(text, what) { // RFC 4648, section 4; of several spellings only the canonical one
  const binary = attempt(() => atob(text), `${what} is not base64`);
  check(btoa(binary) === text, `${what} is not canonical base64`);
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

// ---- JSON (RFC 8259), strictly: UTF-8, no member twice. Objects become Maps, whole numbers BigInts.
function parseJson(bytes, what, most) {
  const source = check(bytes.length <= most, `${what} is above ${most} bytes`) && fromUtf8(bytes, what);
  attempt(() => JSON.parse(source), `${what} is not JSON`);
  const tokens = source.matchAll(/"(?:[^"\\]+|\\.)*"|[{}[\]]|[^\s"{}[\],:]+/g); // the grammar holds already
  const next = () => tokens.next().value[0];
  function* until(end) { for (let token = next(); token !== end; token = next()) yield token; }
  function value(token, depth) {
    check(depth <= 64, `${what} is nested too deeply`);
    if (token === "[") return Array.from(until("]"), (item) => value(item, depth + 1));
    if (/^-?[0-9]+$/.test(token)) return check(token.length <= 1000, `${what} has a huge number`) && BigInt(token);
    if (token !== "{") return JSON.parse(token);
    const pairs = Array.from(until("}"), (name) => [JSON.parse(name), value(next(), depth + 1)]);
    return check(new Map(pairs).size === pairs.length, `${what} has two members of one name`) && new Map(pairs);
  }
  return value(next(), 0);
}
// A type is a function (found, where) that returns what was found, in its own form, or fails.
const only = (test, kind) => (found, where) => check(test(found), `${where} is not ${kind}`) && found;
const text = only((found) => typeof found === "string" && found.isWellFormed(), "a Unicode text");
const whole = only((found) => typeof found === "bigint" && found >= 0n && found <= MAX_NUMBER, "a whole number");
const exactly = (expected) => only((found) => found === expected, `"${expected}"`);
const base64 = (found, where) => fromBase64(text(found, where), where);
const orNull = (type) => (found, where) => (found === null ? null : type(found, where));
const orElse = (type, otherwise) => (found, where) => (found === undefined ? otherwise : type(found, where));
const array = (most) => only((found) => Array.isArray(found) && found.length <= most, `a list of at most ${most}`);
const list = (type, most) => (found, where) => array(most)(found, where).map((each, n) => type(each, `${where}.${n}`));
const map = only((found) => found instanceof Map, "an object");
const object = (shape) => (found, where) => Object.fromEntries(Object.entries(shape).map(
  ([name, type]) => [name, type(map(found, where).get(name), `${where}.${name}`)]));

// ---- Avro 1.12, single-object encoding, in its shortest form only (docs/formats.md, section 2)
const isKind = (name, bytes) => toHex(bytes.subarray(0, 10)) === `c301${SCHEMAS[name][0]}`;
function decode(name, bytes) {
  let at = 10;
  const need = (holds) => check(holds, `no ${name} record in its shortest form: byte ${at}`);
  const take = (size) => need(size <= bytes.length - at) && bytes.subarray(at, at += size);
  function long(groups = 0n, shift = 0n) {
    const [byte] = take(1);
    const found = groups | BigInt(byte & 127) << shift;
    need((byte || !shift) && found < 1n << 64n);
    return byte & 128 ? long(found, shift + 7n) : (found >> 1n) ^ -(found & 1n);
  }
  const count = (limit = 1 << 24, found = long()) => need(found >= 0n && found < limit) && Number(found);
  const items = (type, all = Array.from({ length: count() }, () => read(type))) => need(!all.length || !count()) && all;
  function read(type) {
    if (type === LONG) return long();
    if (type === DOUBLE) return new DataView(take(8).slice().buffer).getFloat64(0, true);
    if (type === BYTES) return take(count());
    if (type === STRING) return fromUtf8(take(count()), `a text in a ${name} record`);
    if (typeof type === "number") return take(type);
    if (type.symbols) return type.symbols[count(type.symbols.length)];
    if (type.inner) return count(2) ? read(type.inner) : null;
    if (Array.isArray(type)) return type.length === 1 ? items(type[0]) : type.map(read);
    return Object.fromEntries(Object.entries(type).map(([field, inner]) => [field, read(inner)]));
  }
  const found = need(isKind(name, bytes)) && read(SCHEMAS[name][1]);
  return need(at === bytes.length) && found;
}

// ---- Ed25519: keys canonical and of prime order; events by ZIP 215; notes by RFC 8032 without the cofactor
const digestOf = (bytes) => toHex(sha256(bytes));
const remembered = (work, known = {}) => (...parts) => (known[parts.map(digestOf)] ??= work(...parts));
const isPoint = (bytes, test) => { try { return test(ed25519.Point.fromBytes(bytes)); } catch { return false; } };
const isPublicKey = remembered((key) => isPoint(key, (point) => point.isTorsionFree() && !point.isSmallOrder()));
const isEventSignature = remembered((signature, message, key) =>
  signature.length === 64 && ed25519.verify(signature, message, key, { zip215: true }));
// As the key has prime order, the equation holds without the cofactor iff it holds with it and R has no torsion.
const isNoteSignature = remembered((signature, message, key) =>
  isEventSignature(signature, message, key) && isPoint(signature.subarray(0, 32), (R) => R.isTorsionFree()));

// ---- C2SP signed-note and tlog-cosignature
const [ED25519, COSIGNATURE] = [1, 4];
const isKeyName = (name) => !/^$|[\p{White_Space}\p{Cs}\x00-\x1f+]/u.test(name) && toUtf8(name).length < 256;
function verifierKey(name, type, key) {
  check(isKeyName(name) && isPublicKey(key), `${name.slice(0, 80)} is no key's name, or its key not one to trust`);
  return { name, type, key, id: digestOf(join(toUtf8(`${name}\n`), Uint8Array.of(type), key)).slice(0, 8) };
}
function parseNote(bytes) {
  const content = check(bytes.length <= 1_000_000, "a note is above 1,000,000 bytes") && fromUtf8(bytes, "a note");
  const [, text, lines] = content.match(/^([^\x00-\x09\x0b-\x1f]*\n)\n((?:— [^ \n]+ [^\n]+\n){1,100})$/)
    ?? fail("a note is not a text without control characters, a blank line, and 1 to 100 signature lines");
  const signatures = [...lines.matchAll(/— ([^ ]+) ([^\n]+)\n/g)].map(([, name, encoded]) => {
    const raw = fromBase64(encoded, `the signature of ${name}`);
    check(isKeyName(name) && raw.length > 4, `the signature line of ${name} has a bad name or no signature`);
    return { name, id: toHex(raw.subarray(0, 4)), blob: raw.subarray(4) };
  });
  return { bytes, text, signatures };
}
/** Which of `keys` signed the note, with the time that a witness states; a bad signature by one of them fails. */
function verifySignatures(note, keys) {
  const waiting = new Map(keys.map((key) => [`${key.name} ${key.id}`, key]));
  return note.signatures.flatMap(({ name, id, blob }) => {
    const key = waiting.get(`${name} ${id}`);
    if (!waiting.delete(`${name} ${id}`)) return []; // unknown, or counted already
    const stamp = blob.subarray(0, key.type === COSIGNATURE ? 8 : 0);
    const time = bytesToNumberBE(stamp);
    const message = toUtf8(stamp.length ? `cosignature/v1\ntime ${time}\n${note.text}` : note.text);
    const holds = time <= MAX_NUMBER && isNoteSignature(blob.subarray(stamp.length), message, key.key);
    return check(holds, `the signature of ${name} does not fit the note`) && [{ key, time }];
  });
}

// ---- C2SP tlog-policy: which cosignatures are enough
const POLICY_LINE = new RegExp("^(?:log (?<log>[^ ]+)(?: [^ ]+)?|witness (?<witness>[^ ]+) (?<vkey>[^ ]+)(?: [^ ]+)?"
  + "|group (?<group>[^ ]+) (?<threshold>all|any|[1-9][0-9]{0,3}) (?<parts>.+)|quorum (?<quorum>[^ ]+))$");
function parsePolicy(source) {
  check(toUtf8(source).length <= 65536 && /\n$/.test(source) && !/[\x00-\x08\x0b-\x1f\x7f]/.test(source),
    "the witness policy is too long, has no newline at its end, or holds a control character");
  const [witnesses, named, members, keys, counts] = [[], new Map(), new Set(), new Set(), new Map()];
  let isMet = null;
  const isNew = (value, among) => !among.has(value) && among.add(value);
  const lookUp = (name) => named.get(name) ?? fail(`${name} is not defined above its use`);
  const define = (name, isMet) => check(name !== "none" && !named.has(name), `${name} again`) && named.set(name, isMet);
  function readKey(vkey, expected) {
    const [, name, id, encoded] = vkey.match(/^([^+]*)\+([^+]*)\+(.*)$/s) ?? fail(`${vkey} is not name+hash+key`);
    const [type, ...raw] = fromBase64(encoded, `the verifier key of ${name}`);
    const key = verifierKey(name, type, Uint8Array.from(raw));
    return check(type === expected && id === key.id && isNew(toHex(key.key), keys), `${vkey} is wrong or known`) && key;
  }
  for (const line of `\n${source}`.replace(/[ \t]+/g, " ").split(/ ?\n ?/)) {
    if (line === "" || line.startsWith("#")) continue;
    const [kind] = line.split(" ");
    check(counts.set(kind, (counts.get(kind) ?? 0) + 1).get(kind) <= 64, `there are more than 64 lines of ${kind}`);
    const { log, witness, vkey, group, threshold, parts, quorum } = line.match(POLICY_LINE)?.groups ?? fail(`${line}?`);
    if (log) readKey(log, ED25519);
    if (witness) {
      const key = readKey(vkey, COSIGNATURE);
      define(witness, (signed) => signed.has(key)) && witnesses.push(key);
    }
    if (group) {
      const inner = parts.split(" ").map((part) => check(isNew(part, members), `${part} is grouped`) && lookUp(part));
      const least = { all: inner.length, any: 1 }[threshold] ?? Number(threshold);
      check(least <= inner.length, `the group ${group} is smaller than its threshold`);
      define(group, (signed) => inner.filter((isMet) => isMet(signed)).length >= least);
    }
    if (quorum) isMet = check(!isMet, "a second quorum") && (quorum === "none" ? () => true : lookUp(quorum));
  }
  return { witnesses, isMet: isMet ?? fail("the witness policy has no quorum") };
}

// ---- C2SP tlog-checkpoint and tlog-proof; inclusion by RFC 6962, as RFC 9162, section 2.1.3.2, puts it
/** A proof whose checkpoint a log key signed for `origin`. */
function openProof(source, origin, trust) {
  const form = /^c2sp\.org\/tlog-proof@v1\n(?:extra ([^\n]*)\n)?index ([^\n]*)\n((?:[^\n]+\n){0,63})\n([^]*)$/;
  const [, extra = "", index, lines, rest] = source.match(form) ?? fail("no tlog-proof");
  const hashes = lines.split("\n").slice(0, -1).map((line) => fromBase64(line, "a proof's hash"));
  check(fromBase64(extra, "a proof's extra data") && isDecimal(index) && hashes.every(isHash)
    && toUtf8(source).length <= 2_000_000, "a proof has no index, a hash that is none, or more than 2,000,000 bytes");
  const [note, keys] = [parseNote(toUtf8(rest)), trust.logKeys.map((key) => verifierKey(origin, ED25519, key))];
  check(verifySignatures(note, keys).length, `no log key has signed a checkpoint of ${origin}`);
  const [, name, size, encoded] = note.text.match(/^([^\n]+)\n([^\n]+)\n([^\n]+)\n(?:[^\n]+\n)*$/) ?? [];
  check(name === origin && isDecimal(size), `a note is no checkpoint of ${origin}`);
  const root = fromBase64(encoded, "a root");
  check(isHash(root) && (size !== "0" || equal(root, sha256(toUtf8("")))), `a root of ${size} leaves is none`);
  return { index: BigInt(index), hashes, note, size: BigInt(size), root };
}
function checkInclusion(entry, { index, hashes, size, root }) {
  check(index < size, `leaf ${index} is not in a tree of ${size} leaves`);
  let [node, last, hash] = [index, size - 1n, sha256(join(Uint8Array.of(0), entry))];
  for (const sibling of hashes) {
    const isRight = check(last > 0n, "an inclusion proof is too long") && (node & 1n || node === last);
    hash = sha256(join(Uint8Array.of(1), ...(isRight ? [sibling, hash] : [hash, sibling])));
    for (; isRight && node && !(node & 1n); last >>= 1n) node >>= 1n;
    [node, last] = [node >> 1n, last >> 1n];
  }
  check(last === 0n && equal(hash, root), `the proof of leaf ${index} does not lead to the root of ${size} leaves`);
}

// ---- Signed envelopes, events and the registry (docs/formats.md, sections 4 to 6)
const openEnvelope = (value, found = check(value?.length <= 65536, "no value") && decode("signed_envelope", value)) =>
  check(found.signatures.length >= 1 && found.signatures.length <= 16, "not 1 to 16 signatures") && found;
/** DSSE v1.0.2, pre-authentication encoding; the type names the kind and the audience. */
function toBeSigned(kind, audience, payload) {
  const type = toUtf8(`application/vnd.attestream.${kind.replace("_", "-")}+avro; audience=${audience}`);
  return join(toUtf8(`DSSEv1 ${type.length} `), type, toUtf8(` ${payload.length} `), payload);
}
const isShort = (text) => typeof text !== "string" || [...text].length <= 512;
function decodeEvent(payload) {
  const kind = ["telemetry", "access", "lifecycle"].find((name) => isKind(name, payload)) ?? fail("this is no event");
  const { boot, sequence, codes = [], values = [], device_id: device, ...others } = decode(kind, payload);
  check(/^did:/.test(device) && [device, ...Object.values(others)].every(isShort), "no DID, or a text is too long");
  check([boot, sequence].every((n) => n >= 1n && n <= 1n << 62n) && codes.length === values.length && codes.length < 257
    && values.every(Number.isFinite) && codes.every((n) => n >= 0n && n < 1n << 31n), "a number breaks a rule");
  return { kind, device };
}
function didKey(publicKey) {
  const digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"; // base58btc
  let [did, number] = ["", BigInt(`0xed01${toHex(publicKey)}`)];
  for (; number; number /= 58n) did = digits[Number(number % 58n)] + did;
  return `did:key:z${did}`;
}
function applyEntry({ subjects, taken }, { record }, trust) {
  const rule = (number, holds) => check(holds, `registry entry ${record.offset} breaks rule ${number} of section 6`);
  const { payload, signatures } = openEnvelope(record.value);
  const { subject: did, version, action, key, attributes, ...entry } = decode("registry_entry", payload);
  check(new Map(attributes).size === attributes.length, "a registry entry has an attribute twice");
  rule(1, equal(record.key, toUtf8(did)) && /^did:[^#]*$/.test(did) && isShort(did));
  const message = toBeSigned("registry_entry", trust.log_name, payload);
  const isSigned = ({ key_id: name, signature }) => isEventSignature(signature, message, trust.authorities.get(name));
  rule(2, signatures.every((each) => trust.authorities.has(each.key_id) && isSigned(each)));
  rule(2, new Set(signatures.map((each) => each.key_id)).size >= trust.authority_threshold);
  const subject = subjects.get(did) ?? { version: 0n, digest: new Uint8Array(), keys: new Map(), ended: false };
  rule(3, version === subject.version + 1n && equal(subject.digest, entry.previous_digest));
  rule(4, (action === "REGISTER") === (version === 1n) && !subject.ended);
  if (action === "REGISTER" || action === "ROTATE") {
    const [id, raw] = [key?.key_id, key?.public_key];
    rule(5, id && !id.includes("#") && !subject.keys.has(id) && isPublicKey(raw) && !taken.has(toHex(raw)));
    rule(5, version > 1n || !did.startsWith("did:key:") || did === didKey(raw));
    for (const old of subject.keys.values()) old.ended ||= old.purpose === key.purpose;
    subject.keys.set(id, { ...key, ended: false }) && taken.add(toHex(raw));
  } else if (action === "REVOKE") {
    const [old, since] = [subject.keys.get(entry.revoked_key_id), entry.compromised_since];
    rule(6, old) && Object.assign(old, { ended: true, since: since === null || old.since < since ? old.since : since });
  } else subject.ended = true;
  subjects.set(did, Object.assign(subject, { version, digest: blake3(payload) }));
}

// ---- The ledger: HCS running hash, version 3, and HCS-27 message (docs/formats.md, section 12)
function runningHash(previous, topic, { sequence, consensus_timestamp_ns: time, payer, message }) {
  const ids = [payer, topic].map((id) => id.split("."));
  check(ids.every((id) => id.length === 3 && id.every((part) => isDecimal(part))), "no shard.realm.number");
  return sha384(join( // a Java object stream: an array of bytes, 76 bytes of numbers, another array of bytes
    fromHex("aced0005757200025b42acf317f8060854e00200007870"), uint(48, 4), previous, fromHex("774c"), uint(3, 8),
    ...ids.flat().map((part) => uint(BigInt(part), 8)), uint(time / 10n ** 9n, 8), uint(time % 10n ** 9n, 4),
    uint(sequence, 8), fromHex("7571007e0000"), uint(48, 4), sha384(message)));
}
const filled = (found, where) => text(found, where) || fail(`${where} is empty`);
const base64Url = (found, where) => check(!/[+/=]/.test(filled(found, where)), `${where} is not unpadded base64url`)
  && fromBase64(found.replaceAll("-", "+").replaceAll("_", "/").padEnd(Math.ceil(found.length / 4) * 4, "="), where);
const size = (found, where) => check(isDecimal(text(found, where), 2n ** 64n - 1n), `${where} is bad`) && BigInt(found);
const root = (found, where) => only(isHash, "a root")(base64Url(found, where), where);
const HEAD = object({ treeSize: size, rootHashB64u: root });
const ANCHOR_MESSAGE = object({ p: exactly("hcs-27"), op: exactly("register"), metadata: object({
  type: exactly("ans-checkpoint-v1"), stream: object({ registry: filled, log_id: filled }),
  log: object({ alg: exactly("sha-256"), leaf: filled, merkle: exactly("rfc9162") }), root: HEAD,
  prev: orElse(HEAD, { treeSize: 0n }), sig: orElse(object({ alg: filled, kid: filled, b64u: base64Url }), null) }) });
/** Checks a receipt; returns whether its chain reaches a point that the trust file knows. */
function checkReceipt(anchor, epoch, { ledger, log_name: logName }) {
  for (const [name, expected] of [["ledger", ledger.kind], ["topic", ledger.topic], ["payer", ledger.payer]])
    check(!expected || anchor[name] === expected, `the ${name} is ${anchor[name]}, the trust file says ${expected}`);
  check(anchor.ledger.startsWith("hedera:") && anchor.running_hash_version === 3n, "this ledger's rules are not known");
  const start = anchor.segment_start ?? { sequence: 0n, running_hash: new Uint8Array(48) };
  check(start.running_hash.length === 48 && (start.sequence || !anchor.segment_start), "segment_start is no message's");
  [{ consensus_timestamp_ns: 0n, ...start }, ...anchor.segment].reduce((before, each) => {
    check(each.sequence === before.sequence + 1n && each.consensus_timestamp_ns > before.consensus_timestamp_ns
      && equal(each.running_hash, runningHash(before.running_hash, anchor.topic, each)), "the segment is no chain");
    return each;
  });
  const own = anchor.segment.find((each) => each.sequence === anchor.sequence) ?? fail("the segment lacks the message");
  check(own.consensus_timestamp_ns === anchor.consensus_timestamp_ns && own.payer === anchor.payer && equal(own.message,
    anchor.message) && equal(own.running_hash, anchor.running_hash), "the segment has another message");
  const { stream, root, prev } = ANCHOR_MESSAGE(parseJson(own.message, "message", 1024), "message").metadata;
  check(prev.treeSize <= root.treeSize && stream.log_id === logName && root.treeSize === epoch.size
    && equal(root.rootHashB64u, epoch.root), "the ledger message anchors another root");
  const known = new Map([start, ...anchor.segment].map((each) => [each.sequence, each.running_hash]));
  const shared = ledger.checkpoints.filter((point) => known.has(point.sequence));
  check(shared.every((point) => equal(point.running_hash, known.get(point.sequence))), "a known running hash differs");
  return shared.some((point) => point.sequence >= anchor.sequence);
}

// ---- The two files (docs/formats.md, section 13)
const publicKey = (found, where) => only(isPublicKey, "a key to trust")(base64(found, where), where);
const keysByName = (found, where) =>
  new Map([...map(found, where)].map(([name, key]) => [text(name, where), publicKey(key, name)]));
const header = (found, where) => [text(array(2)(found, where)[0], where), orNull(base64)(found[1], where)];
const policy = (found, where) => (text(found, where) ? parsePolicy(found) : { witnesses: [], isMet: () => true });
const stated = orElse(text, "");
const POINT = object({ sequence: whole, running_hash: base64 });
const TRUST = object({ log_name: only((name) => isKeyName(text(name, "log_name")), "a log's name"), log_key: publicKey,
  previous_log_keys: orElse(list(publicKey, 100), []), authorities: keysByName, authority_threshold: whole,
  witnesses: orElse(object({ policy: orElse(policy, policy("")) }), { policy: policy("") }),
  ledger: object({ kind: stated, topic: stated, payer: stated, checkpoints: orElse(list(POINT, 10_000), []) }) });
const RECORD = object({ topic: text, partition: whole, offset: whole, timestamp_ms: whole, key: orNull(base64),
  headers: list(header, 100_000), value: orNull(base64), value_digest: orElse(base64, null) });
const record = (found, where, read = RECORD(found, where)) => check(read.value_digest === null
  || (read.value === null && isHash(read.value_digest)), `${where}.value_digest stands for a null value alone`) && read;
const PROVEN = { record, leaf: base64, shard_proof: text, epoch_proof: text };
const MESSAGE = { sequence: whole, consensus_timestamp_ns: whole, payer: text, message: base64, running_hash: base64 };
const ANCHOR = object({ ...MESSAGE, ledger: text, topic: text, transaction_id: text, mirror: text,
  running_hash_version: whole, segment_start: orNull(POINT), segment: list(object(MESSAGE), 4096) });
const EVIDENCE = object({ format: exactly("attestream-evidence/v1"), ...PROVEN, registry: list(object(PROVEN), 1000),
  anchor: orNull(ANCHOR) });
function parseTrust(bytes) {
  const trust = TRUST(parseJson(bytes, "trust", 1 << 20), "trust");
  const { authorities, authority_threshold: threshold, witnesses } = trust;
  trust.logKeys = [trust.log_key, ...trust.previous_log_keys];
  check(threshold >= 1n && threshold <= Math.max(1, authorities.size), "authority_threshold does not fit");
  const keys = [...trust.logKeys, ...authorities.values(), ...witnesses.policy.witnesses.map(({ key }) => key)];
  return check(new Set(keys.map(toHex)).size === keys.length, "the trust file lists a key twice") && trust;
}

// ---- The steps, each of which must hold
function checkRecord({ record, leaf }) {
  const part = (bytes) => (bytes === null ? uint(0xffffffff, 4) : join(uint(bytes.length, 4), bytes));
  const headers = record.headers.flatMap(([name, value]) => [part(toUtf8(name)), part(value)]);
  const parts = [part(record.key), uint(record.headers.length, 4), ...headers];
  const keyDigest = parts.reduce((hash, bytes) => hash.update(bytes), blake3.create()).digest();
  const recordDigest = blake3(join(keyDigest, record.value_digest ?? blake3(part(record.value))));
  const { offset, timestamp, digest } = decode("leaf", leaf);
  check(record.topic !== "log.checkpoints", "an entry of the epoch log is no record to prove");
  check(equal(digest, recordDigest) && offset === record.offset && timestamp === record.timestamp_ms, "another leaf");
}
/** From a record to the epoch log's root; `begin` is told each step. Returns both opened proofs. */
function prove(proven, trust, begin) {
  const [{ topic, partition, offset }, name] = [proven.record, trust.log_name];
  begin("record"); checkRecord(proven);
  begin("shard checkpoint"); const shard = openProof(proven.shard_proof, `${name}/${topic}/${partition}`, trust);
  begin("leaf in shard"); checkInclusion(proven.leaf, shard);
  check(shard.index <= offset, "there are more leaves before the record than offsets");
  begin("epoch checkpoint"); const epoch = openProof(proven.epoch_proof, name, trust);
  begin("shard in epoch log"); checkInclusion(shard.note.bytes, epoch);
  return { shard, epoch };
}
/** Proves each entry under the record's own epoch checkpoint and applies those below the registry offset. */
function checkRegistry({ record, registry }, epoch, trust) {
  if (record.topic !== "device.events" || record.value_digest !== null)
    return check(!registry.length, "no signature in this file needs the registry entries") && null;
  const [stated, ...more] = record.headers.filter(([name]) => name === "registry.offset").map(([, value]) => value);
  const digits = more.length || !stated ? "" : fromUtf8(stated, "registry.offset");
  check(/^(0|[1-9][0-9]{0,18})$/.test(digits), "the record has not one header registry.offset with a number");
  let [lastIndex, lastOffset] = [-1n, -1n];
  for (const entry of registry) {
    const [{ topic, partition, offset }, { shard, epoch: its }] = [entry.record, prove(entry, trust, () => {})];
    check(topic === "identity.registry" && partition === 0n, "a registry entry is of another topic");
    check(equal(its.note.bytes, epoch.note.bytes), "a registry entry stands under another epoch checkpoint");
    check(shard.index > lastIndex && shard.index - lastIndex <= offset - lastOffset, "registry entries out of order");
    [lastIndex, lastOffset] = [shard.index, offset];
  }
  const table = { subjects: new Map(), taken: new Set([...trust.logKeys, ...trust.authorities.values()].map(toHex)) };
  const isEarlier = (entry) => entry.record.offset < BigInt(digits);
  registry.filter(isEarlier).forEach((entry) => applyEntry(table, entry, trust));
  return { table, later: registry.filter((entry) => !isEarlier(entry)) };
}
/** Checks every signature of an event; returns the keys, as they are by the newest entry in the file. */
function checkSignatures({ record, registry }, { table, later }, trust) {
  const { payload, signatures } = openEnvelope(record.value);
  const { kind, device } = decodeEvent(payload);
  check(equal(record.key, toUtf8(device)), "the record's key is not the device");
  const message = toBeSigned(kind, trust.log_name, payload);
  const signers = signatures.map(({ key_id: name, signature }, at) => {
    const split = name.lastIndexOf("#");
    const [did, id, purpose] = at ? [name.slice(0, split), name.slice(split + 1), "APPROVAL"] : [device, name, "EVENT"];
    const [subject, key] = [table.subjects.get(did), table.subjects.get(did)?.keys.get(id)];
    check((split < 0) === !at && key?.purpose === purpose, `${did} has no key ${id} to sign this with`);
    check(!subject.ended && !key.ended, `the key ${id} of ${did} had ended at the registry offset`);
    check(isEventSignature(signature, message, key.public_key), `the signature by key ${id} of ${did} does not verify`);
    return { did, key };
  });
  const isSigner = ({ record: { key } }) => signers.some(({ did }) => equal(key, toUtf8(did)));
  check(registry.every(isSigner), "a registry entry is about somebody who signed nothing here");
  later.forEach((entry) => applyEntry(table, entry, trust));
  return signers.map(({ did, key }) => ({ did, key: key.key_id, ended: key.ended, since: key.since ?? null }));
}
/** The verdict on two files as bytes: `broken` names the first step that fails; `found` has what else they tell. */
export function verify(evidenceBytes, trustBytes) {
  let step;
  try {
    step = "trust file"; const trust = parseTrust(trustBytes);
    step = "file"; const evidence = EVIDENCE(parseJson(evidenceBytes, "evidence", 8 << 20), "evidence");
    const { epoch } = prove(evidence, trust, (name) => { step = name; });
    step = "witnesses"; const cosigned = verifySignatures(epoch.note, trust.witnesses.policy.witnesses);
    check(trust.witnesses.policy.isMet(new Set(cosigned.map(({ key }) => key))), `only ${cosigned.length} cosigned`);
    step = "registry chain"; const chain = checkRegistry(evidence, epoch, trust);
    step = "signatures"; const signers = chain && checkSignatures(evidence, chain, trust);
    step = "ledger receipt"; const isLedgerKnown = evidence.anchor && checkReceipt(evidence.anchor, epoch, trust);
    const found = { cosigned: cosigned.map(({ key, time }) => ({ name: key.name, time })), signers, isLedgerKnown };
    return { holds: true, broken: null, why: null, found };
  } catch (error) {
    if (error instanceof Broken) return { holds: false, broken: step, why: error.message, found: {} };
    throw error;
  }
}

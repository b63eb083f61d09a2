// The Avro schemas that evidence holds (docs/formats.md, section 2), as data: a name, the schema's CRC-64-AVRO
// fingerprint, and its fields in their order. A number is a fixed's size, [type] an array, [type, type] a tuple.
export const [LONG, BYTES, STRING, DOUBLE] = ["long", "bytes", "string", "double"];
const oneOf = (...symbols) => ({ symbols }); // an enum
const optional = (inner) => ({ inner }); // a union of null and a type

const algorithm = oneOf("ED25519");
const SIGNATURE = { key_id: STRING, algorithm, signature: BYTES };
const KEY = { key_id: STRING, algorithm, public_key: BYTES, purpose: oneOf("EVENT", "APPROVAL") };
const ACTION = oneOf("REGISTER", "ROTATE", "REVOKE", "DECOMMISSION");
const EVENT = { device_id: STRING, boot: LONG, sequence: LONG, time: LONG };
const ACCESS = { subject: STRING, action: STRING, resource: STRING, purpose: STRING, session: STRING };
const LIFECYCLE_KIND = oneOf("BOOT", "SHUTDOWN", "FIRMWARE", "CALIBRATION", "ASSOCIATE", "DISSOCIATE");

export const SCHEMAS = {
  leaf: ["0fcea519cac2be49", { offset: LONG, timestamp: LONG, digest: 32 }],
  signed_envelope: ["7852cdad20740870", { payload: BYTES, signatures: [SIGNATURE] }],
  registry_entry: ["9752b5ade0264bb7", {
    subject: STRING, version: LONG, previous_digest: BYTES, action: ACTION, time: LONG, key: optional(KEY),
    revoked_key_id: optional(STRING), compromised_since: optional(LONG),
    attributes: [[STRING, STRING]], // Avro writes a map as it writes an array of pairs
  }],
  telemetry: ["24196722d6ec4e70", { ...EVENT, codes: [LONG], values: [DOUBLE] }],
  access: ["8b058463a5301a39", { ...EVENT, ...ACCESS, outcome: oneOf("GRANTED", "DENIED", "FAILED") }],
  lifecycle: ["85a18c65dfb1b7a6", {
    ...EVENT, kind: LIFECYCLE_KIND, firmware: optional(STRING), pseudonym: optional(STRING),
  }],
};

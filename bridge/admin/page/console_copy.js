// A call of the console as text: for a shell (grpcurl, grpc-lambda-bridge call) and for Python. And what looks secret.

const SECRET_NAME = /auth|cookie|token|secret|passw|pwd|key|credential|session|signature|jwt|bearer/i;
const SECRET_VALUE = /^(?:bearer|basic|digest)\s|^eyJ[\w-]{5,}\.[\w-]+\.[\w-]*$|^AKIA[0-9A-Z]{12,}$/i;
export const HIDDEN = "[hidden]";

/** Whether metadata looks like something that should not be shown to others. */
export const isSecret = ([name, value]) => SECRET_NAME.test(name) || SECRET_VALUE.test(value);

export const hideSecrets = (metadata) =>
  metadata.map((entry) => (isSecret(entry) && entry[1] ? [entry[0], HIDDEN] : entry));

/** A word for a POSIX shell. Nothing in it is special, and no control character reaches a terminal raw. */
export function quote(text) {
  if (/^[\w@%+=:,./-]+$/.test(text) && !/^[=~]/.test(text)) return text;
  // eslint-disable-next-line no-control-regex
  if (!/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/.test(text)) {
    return `'${text.replaceAll("'", "'\\''")}'`;
  }
  // Bash, zsh and ksh read $'…' (POSIX.1-2024, 2.2.4). Bytes, because \u depends on the locale.
  const bytes = new TextEncoder().encode(text.replaceAll("\0", ""));
  const words = [...bytes].map((byte) => (byte >= 0x20 && byte < 0x7f && byte !== 0x27 && byte !== 0x5c
    ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, "0")}`));
  return `$'${words.join("")}'`;
}

/** A string literal of Python. */
function literal(text) {
  const escaped = (char) => {
    const point = char.codePointAt(0);
    return point > 0xffff ? `\\U${point.toString(16).padStart(8, "0")}` : `\\u${point.toString(16).padStart(4, "0")}`;
  };
  return `"${text.replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n").replace(/[^\x20-\x7e]/gu, escaped)}"`;
}

const UNITS = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 };

/** Seconds of a duration such as `1m30s`; undefined if it is none. */
export function seconds(text) {
  const parts = [...text.trim().matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g)];
  if (!parts.length || parts.map((part) => part[0]).join("") !== text.trim()) return undefined;
  return Number(parts.reduce((sum, [, number, unit]) => sum + Number(number) * UNITS[unit], 0).toFixed(6));
}

/** Where a client on this machine finds the bridge. */
export function reachable(address) {
  return address.replace(/^0\.0\.0\.0:/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:");
}

const lines = (words) => words.join(" \\\n  ");

function asGrpcurl({ listener, path, metadata, deadline, messages }) {
  const address = reachable(listener.address);
  const limit = seconds(deadline);
  const isUnix = address.startsWith("unix:");
  return lines([
    `grpcurl${listener.tls ? "" : " -plaintext"}${isUnix ? " -unix" : ""}`,
    ...metadata.map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`),
    ...(limit === undefined ? [] : [`-max-time ${limit}`]),
    `-d ${quote(messages.join(" "))}`,
    `${quote(isUnix ? address.slice(5) : address)} ${quote(path.slice(1))}`,
  ]);
}

function asCall({ listener, path, metadata, deadline, messages }) {
  return lines([
    `grpc-lambda-bridge call --to ${quote(reachable(listener.address))}${listener.tls ? " --tls" : ""}`,
    ...metadata.map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`),
    ...(seconds(deadline) === undefined ? [] : [`--timeout ${quote(deadline.trim())}`]),
    `-d ${quote(messages.join(" "))}`,
    quote(path.slice(1)),
  ]);
}

function asPython({ listener, path, metadata, deadline, messages, kind }) {
  const [service, method] = path.slice(1).split("/");
  const isStream = kind === "client_stream" || kind === "bidi_stream";
  const isStreamed = kind === "server_stream" || kind === "bidi_stream";
  const channel = listener.tls ? "secure_channel" : "insecure_channel";
  const security = listener.tls ? ", grpc.ssl_channel_credentials()" : "";
  const value = ([name, text]) => (name.endsWith("-bin") && text !== HIDDEN
    ? `base64.b64decode(${literal(`${text.replace(/=+$/, "")}===`)})` : literal(text));
  const limit = seconds(deadline);
  const options = [
    ...(metadata.length ? [`metadata=[${metadata.map((entry) => `(${literal(entry[0])}, ${value(entry)})`).join(", ")}]`] : []),
    ...(limit === undefined ? [] : [`timeout=${limit}`]),
  ];
  const given = isStream ? "iter(messages)" : "messages[0]";
  return [
    "# pip install grpcio grpcio-reflection",
    ...(metadata.some(([name]) => name.endsWith("-bin")) ? ["import base64", ""] : []),
    "import grpc",
    "from google.protobuf import json_format",
    "from google.protobuf.descriptor_pool import DescriptorPool",
    "from google.protobuf.message_factory import GetMessageClass",
    "from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase",
    "",
    `with grpc.${channel}(${literal(reachable(listener.address))}${security}) as channel:`,
    "    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))",
    `    method = pool.FindServiceByName(${literal(service)}).FindMethodByName(${literal(method)})`,
    "    request, reply = GetMessageClass(method.input_type), GetMessageClass(method.output_type)",
    `    call = channel.${isStream ? "stream" : "unary"}_${isStreamed ? "stream" : "unary"}(`,
    `        ${literal(path)},`,
    "        request_serializer=request.SerializeToString,",
    "        response_deserializer=reply.FromString,",
    "    )",
    `    texts = [${messages.map(literal).join(", ")}]`,
    "    messages = [json_format.Parse(text, request(), descriptor_pool=pool) for text in texts]",
    ...(isStreamed
      ? [`    for message in call(${[given, ...options].join(", ")}):`, "        print(message)"]
      : [`    print(call(${[given, ...options].join(", ")}))`]),
  ].join("\n");
}

/** `call`: `{listener, path, metadata, deadline, messages, kind}`; the messages are JSON texts. */
export function copyAs(format, call) {
  const whole = { ...call, messages: call.messages.length ? call.messages : ["{}"] };
  return { grpcurl: asGrpcurl, call: asCall, python: asPython }[format](whole);
}
